//! Who sees all that a cache lets be seen: its log lines and spans, and its metrics. Both are for tests on one thread.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata as MetricMetadata, Recorder, SharedString, Unit};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// A span or a line of the log.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The name of the span, or the text of the line.
    pub what: String,
    /// How important it is.
    pub level: Level,
    /// The number of a span; `None` for a line.
    pub span: Option<u64>,
    /// The span inside which it is.
    pub inside: Option<u64>,
    /// Its fields, as text.
    pub fields: BTreeMap<String, String>,
}

impl Seen {
    /// The field of that name, empty if it has none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Everything that tideover writes, and every span that it makes, while its guard is held.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    all: Vec<Seen>,
    /// Where each span is among all.
    spans: Vec<usize>,
    entered: Vec<u64>,
}

impl Witness {
    /// Begins to look, on this thread.
    #[must_use]
    pub fn watch() -> (Self, DefaultGuard) {
        // While there is one subscriber alone, `tracing` asks that of the thread which comes to a span first whether anybody
        // wants it, for all threads. Another one for ever, of no thread, has it ask everybody.
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        let _other = OTHER.get_or_init(|| Dispatch::new(Self::default()));
        let witness = Self::default();
        let guard = tracing::subscriber::set_default(witness.clone());
        (witness, guard)
    }

    /// The spans of that name.
    #[must_use]
    pub fn spans(&self, name: &str) -> Vec<Seen> {
        self.notes().all.iter().filter(|seen| seen.span.is_some() && seen.what == name).cloned().collect()
    }

    /// The lines of the log that are at least that important.
    #[must_use]
    pub fn lines(&self, level: Level) -> Vec<Seen> {
        self.notes().all.iter().filter(|seen| seen.span.is_none() && seen.level <= level).cloned().collect()
    }

    /// All that was seen, as text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:?}", self.notes().all)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Fields<'a>(&'a mut Seen);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").expect("it has a text");
        if field.name() == "message" {
            self.0.what = text;
        } else {
            self.0.fields.insert(field.name().to_owned(), text);
        }
    }
}

impl Subscriber for Witness {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some("tideover")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut notes = self.notes();
        let place = notes.all.len();
        notes.spans.push(place);
        let number = notes.spans.len() as u64;
        let inside = if span.is_contextual() { notes.entered.last().copied() } else { span.parent().map(Id::into_u64) };
        let (what, level) = (span.metadata().name().to_owned(), *span.metadata().level());
        let mut seen = Seen { what, level, span: Some(number), inside, fields: BTreeMap::new() };
        span.record(&mut Fields(&mut seen));
        notes.all.push(seen);
        Id::from_u64(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut notes = self.notes();
        let place = notes.spans[span.into_u64() as usize - 1];
        values.record(&mut Fields(&mut notes.all[place]));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut notes = self.notes();
        let level = *event.metadata().level();
        let inside = notes.entered.last().copied();
        let mut seen = Seen { what: String::new(), level, span: None, inside, fields: BTreeMap::new() };
        event.record(&mut Fields(&mut seen));
        notes.all.push(seen);
    }

    fn enter(&self, span: &Id) {
        self.notes().entered.push(span.into_u64());
    }

    fn exit(&self, _span: &Id) {
        self.notes().entered.pop();
    }
}

/// A recorder of metrics that shows what it was told. To be made the recorder of this thread by
/// [`metrics::set_default_local_recorder`].
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    series: BTreeMap<String, Vec<f64>>,
    described: BTreeMap<String, (Option<Unit>, String)>,
}

impl Figures {
    /// The value of a counter or gauge: `tideover.cache.hits{cache=users}`, labels in the order of their names; `None` if
    /// nobody has told it.
    #[must_use]
    pub fn value(&self, series: &str) -> Option<f64> {
        self.table().series.get(series).and_then(|values| values.last().copied())
    }

    /// What was recorded in a histogram.
    #[must_use]
    pub fn recorded(&self, series: &str) -> Vec<f64> {
        self.table().series.get(series).cloned().unwrap_or_default()
    }

    /// The names that were described, each with its unit and meaning.
    #[must_use]
    pub fn described(&self) -> BTreeMap<String, (Option<Unit>, String)> {
        self.table().described.clone()
    }

    /// All of it, as text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:?}", self.table())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, doc: &SharedString) {
        self.table().described.insert(name.as_str().to_owned(), (unit, doc.to_string()));
    }

    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: BTreeMap<&str, &str> = key.labels().map(|label| (label.key(), label.value())).collect();
        let labels: Vec<String> = labels.into_iter().map(|(label, value)| format!("{label}={value}")).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.table().series.entry(name.clone()).or_default();
        Arc::new(Series { figures: self.clone(), name })
    }
}

struct Series {
    figures: Figures,
    name: String,
}

impl Series {
    fn change(&self, change: impl FnOnce(&mut Vec<f64>)) {
        change(self.figures.table().series.entry(self.name.clone()).or_default());
    }

    fn set_to(&self, new: impl FnOnce(f64) -> f64) {
        self.change(|values| *values = vec![new(values.last().copied().unwrap_or_default())]);
    }
}

impl metrics::CounterFn for Series {
    fn increment(&self, by: u64) {
        self.set_to(|old| old + by as f64);
    }

    fn absolute(&self, value: u64) {
        self.set_to(|old| old.max(value as f64));
    }
}

impl metrics::GaugeFn for Series {
    fn increment(&self, by: f64) {
        self.set_to(|old| old + by);
    }

    fn decrement(&self, by: f64) {
        self.set_to(|old| old - by);
    }

    fn set(&self, value: f64) {
        self.set_to(|_| value);
    }
}

impl metrics::HistogramFn for Series {
    fn record(&self, value: f64) {
        self.change(|values| values.push(value));
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, doc: SharedString) {
        self.describe(&name, unit, &doc);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, doc: SharedString) {
        self.describe(&name, unit, &doc);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, doc: SharedString) {
        self.describe(&name, unit, &doc);
    }

    fn register_counter(&self, key: &Key, _metadata: &MetricMetadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &MetricMetadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _metadata: &MetricMetadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}
