//! How stories write what the machine says.

use std::time::Duration;

use bytes::Bytes;
use tideover::core::breaker::State;
use tideover::core::time::Text;
use tideover::core::{Class, Entry, Failure, Outcome, Refusal, Served, Settled, Source, Stale, Step, Tier};
use tideover::engine::{Key, Report};

pub(super) fn outcome(outcome: &Outcome<Bytes>) -> String {
    match outcome {
        Outcome::Served(value) => format!("served {}", served(value)),
        Outcome::Private(value) => format!("private {}", served(value)),
        Outcome::Absent => "absent".to_owned(),
        Outcome::Settled(Settled::Memory) => "settled in memory".to_owned(),
        Outcome::Settled(Settled::Store) => "settled in store".to_owned(),
        Outcome::Settled(Settled::Journaled) => "settled in journal".to_owned(),
        Outcome::Failed(reason) => format!("failed: {}", failure(*reason)),
    }
}

pub(super) fn step(step: &Step<Key, Bytes>) -> String {
    match step {
        Step::ReadStore { tier: place, key, deadline } => format!("read {} {key} by {deadline:?}", tier(*place)),
        Step::Load { key, attempt, deadline, previous } => {
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let base = previous.as_ref().map(|previous| format!(", previous {}", entry(previous)));
            format!("load {key} by {deadline:?}{again}{}", base.unwrap_or_default())
        }
        Step::Sleep { until } => format!("sleep until {until:?}"),
        Step::Land { outcome: landed } => format!("land {}", outcome(landed)),
        Step::WriteStore { tier: place, key, entry: written, deadline } => {
            let kept = written.remaining().map_or_else(|| "for ever".to_owned(), |left| format!("for {}", Text(left)));
            format!("write {} {key} {} {kept} by {deadline:?}", tier(*place), entry(written))
        }
        Step::RemoveStore { tier: place, key, deadline } => format!("remove {} {key} by {deadline:?}", tier(*place)),
        Step::ClearStore { tier: place, deadline } => format!("clear {} by {deadline:?}", tier(*place)),
        Step::Done { .. } => "done".to_owned(),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::KeyTooLong { bytes, max } => format!("key of {bytes} bytes, {max} are allowed"),
        Refusal::ValueTooLarge { bytes, max } => format!("value of {bytes} bytes, {max} are allowed"),
        Refusal::TooManyWaiters { max } => format!("too many waiters, {max} are allowed"),
        Refusal::TooManyFlights { max } => format!("too many flights, {max} are allowed"),
        Refusal::Reentrant => "reentrant".to_owned(),
    }
}

pub(super) fn health(report: &Report) -> String {
    let circuits = [("store", report.store_breaker.state), ("loader", report.load_breaker.state)];
    let [store, loader] = circuits.map(|(name, state)| match state {
        State::Closed => format!("{name} closed"),
        State::Open { until } => format!("{name} open until {until:?}"),
        State::HalfOpen => format!("{name} half-open"),
    });
    let clear = if report.owes_clear { " and a clear" } else { "" };
    format!("{store}, {loader}, owed {}{clear}", report.count("owed"))
}

fn served(served: &Served<Bytes>) -> String {
    let source = match served.source {
        Source::Memory => "memory",
        Source::Store => "store",
        Source::Fallback => "fallback",
        Source::Load => "load",
    };
    let stale = match served.stale {
        None => "",
        Some(Stale::WhileRevalidate) => ", stale while revalidate",
        Some(Stale::IfError) => ", stale if error",
    };
    format!("{} ({source}, age {}{stale})", value(&served.value), age(served.age, served.ttl))
}

fn entry(entry: &Entry<Bytes>) -> String {
    format!("{} (age {})", value(&entry.value), age(entry.age, entry.windows.ttl))
}

fn age(age: Duration, ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| format!("{}, never expires", Text(age)), |ttl| format!("{} of {}", Text(age), Text(ttl)))
}

fn value(bytes: &Bytes) -> String {
    format!("\"{}\"", String::from_utf8_lossy(bytes))
}

fn failure(failure: Failure) -> String {
    match failure {
        Failure::Load(Class::Unavailable) => "origin unavailable".to_owned(),
        Failure::Load(Class::TimedOut) => "load timed out".to_owned(),
        Failure::Load(Class::Answer) => "origin answered with an error".to_owned(),
        Failure::Load(Class::Panicked) => "loader panicked".to_owned(),
        Failure::Open { until } => format!("loader's circuit open until {until:?}"),
        Failure::DeadlinePassed => "deadline passed".to_owned(),
        Failure::Abandoned => "abandoned".to_owned(),
    }
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Primary => "primary",
        Tier::Fallback => "fallback",
    }
}
