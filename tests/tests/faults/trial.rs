//! One fault under load: callers that know what they are owed, and the record of what they got.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tideover::core::breaker::State;
use tideover::store::{RedisConfig, RedisStore};
use tideover::{Cache, CallOptions, EngineKind, Error, LoadError, Loaded};
use tideover_tests::redis_server::RedisServer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Catches a hang; nothing here comes near it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// What a busy machine may add to any deadline.
pub(crate) const MARGIN: Duration = Duration::from_secs(3);

/// A read waits for the store for 250 ms at most, and the loader answers at once.
const READ_MAX: Duration = Duration::from_millis(250).saturating_add(MARGIN);

/// A change waits for the store for 1 s at most, and for as long for the payment of a debt of the same key.
const CHANGE_MAX: Duration = Duration::from_secs(2).saturating_add(MARGIN);

/// How long a call may take that says so itself.
const PATIENCE: Duration = Duration::from_secs(1);

const CALLERS: u64 = 8;

/// Keys of each caller. Coprime to the number of different calls, so that each key meets them all.
const KEYS: u64 = 19;

/// Rounds of each caller before the fault: every key has met every call.
const WARM: u64 = 5 * KEYS;

/// Far fewer entries than there are keys, so that what was put or removed is asked of the store, and of the fallback in
/// an outage.
const MEMORY: (&str, &str) = ("entries_max", "64");

/// Between two calls of a caller.
const PACE: Duration = Duration::from_millis(3);

/// Waits in open that end within the time of a test.
pub(crate) const SHORT_WAITS: &[(&str, &str)] =
    &[("store_breaker_open_for", "250ms"), ("store_breaker_open_for_max", "1s")];

/// A cache on the store of that configuration, with these options.
pub(crate) fn cache(config: RedisConfig, engine: EngineKind, options: &[(&str, &str)]) -> Cache {
    let store = RedisStore::new(config).expect("a good configuration");
    let builder = Cache::builder().engine(engine).store(store);
    let builder = options.iter().fold(builder, |builder, (name, text)| builder.set(name, text).expect("an option"));
    builder.build().expect("a cache")
}

/// Another process that comes later: it has an empty memory, and waits for the server as long as it takes.
pub(crate) fn successor(server: &RedisServer, engine: EngineKind) -> Cache {
    let config = RedisConfig { response_timeout: HANG, connect_timeout: HANG, ..RedisConfig::new(server.url()) };
    cache(config, engine, &[("store_read_deadline", "60s"), ("call_deadline", "60s")])
}

/// Waits until the store's circuit is closed, nothing is owed, and it stays so; how long that took.
pub(crate) async fn back(cache: &Cache) -> Duration {
    const STAYS: Duration = Duration::from_millis(200);
    let began = Instant::now();
    let mut since = None;
    loop {
        let report = cache.stats().await.expect("a report");
        let well = report.store_breaker.state == State::Closed && report.count("owed") == 0 && !report.owes_clear;
        since = if well { since.or(Some(Instant::now())) } else { None };
        if let Some(since) = since.filter(|since| since.elapsed() >= STAYS) {
            return since - began;
        }
        assert!(began.elapsed() < HANG, "not back: {report:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until nothing is being written behind answers.
pub(crate) async fn settled(cache: &Cache) {
    let began = Instant::now();
    while cache.stats().await.expect("a report").count("flights") > 0 {
        assert!(began.elapsed() < HANG, "flights never end");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A fault that is being survived.
pub(crate) struct Trial {
    fault: &'static str,
    pub(crate) cache: Cache,
    callers: JoinSet<Caller>,
    silent: Vec<Caller>,
    rounds: Arc<AtomicU64>,
    /// Callers with numbers below it are to go on.
    go_on: watch::Sender<u64>,
}

impl Trial {
    /// Callers set to work on a cache of the native engine, until each has used all of its keys.
    pub(crate) async fn begin(fault: &'static str, config: RedisConfig, options: &[(&str, &str)]) -> Self {
        let (go_on, goes_on) = watch::channel(CALLERS);
        let cache = cache(config, EngineKind::Native, &[&[MEMORY], options].concat());
        let rounds = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            callers.spawn(Caller::new(number, cache.clone()).work(goes_on.clone(), Arc::clone(&rounds)));
        }
        let trial = Self { fault, cache, callers, silent: Vec::new(), rounds, go_on };
        trial.all_keys_are_used().await;
        trial
    }

    /// Waits until every caller has made every call on each of its keys once more.
    pub(crate) async fn all_keys_are_used(&self) {
        let (began, enough) = (Instant::now(), self.rounds.load(Ordering::Relaxed) + self.callers.len() as u64 * WARM);
        while self.rounds.load(Ordering::Relaxed) < enough {
            assert!(began.elapsed() < HANG, "{}: callers are stuck", self.fault);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the fault last for so long. Then half of the callers fall silent, so that nothing newer hides what became of
    /// what they did last.
    pub(crate) async fn lasts(&mut self, time: Duration) {
        sleep(time).await;
        self.fall_silent(CALLERS / 2).await;
    }

    async fn fall_silent(&mut self, all_but: u64) {
        self.go_on.send_replace(all_but);
        while self.callers.len() as u64 > all_but {
            self.silent.extend(self.callers.join_next().await.map(|caller| caller.expect("no panic")));
        }
    }

    /// The fault is over: waits until it is survived, and takes stock with the eyes of another process.
    pub(crate) async fn ends(mut self, server: &RedisServer) -> Record {
        let back_after = back(&self.cache).await;
        assert!(!self.silent.is_empty(), "it lasted for no time");
        self.all_keys_are_used().await;
        self.fall_silent(0).await;
        let mut record = Record { fault: self.fault, back_after, ..Record::default() };
        self.silent.iter().for_each(|caller| record.add(caller));
        back(&self.cache).await;
        settled(&self.cache).await;
        let report = self.cache.stats().await.expect("a report");
        (record.trips, record.journaled) = (report.store_breaker.stats.trips, report.count("journaled"));
        let keys = self.silent.iter().flat_map(|caller| &caller.keys);
        record.take_stock(keys, &successor(server, EngineKind::Native)).await;
        println!("{record}");
        record
    }
}

/// What became of a fault.
#[derive(Debug, Default)]
pub(crate) struct Record {
    fault: &'static str,
    requests: u64,
    errors: Vec<String>,
    longest_read: Duration,
    longest_change: Duration,
    /// Answers older than what the caller had put or removed before.
    stale: Vec<String>,
    /// Puts that another process does not find afterwards; it loads them anew.
    pub(crate) lost: Vec<String>,
    /// Keys under which another process finds something older than was put, or what was removed.
    undone: Vec<String>,
    pub(crate) trips: u64,
    pub(crate) journaled: u64,
    back_after: Duration,
}

impl Record {
    fn add(&mut self, caller: &Caller) {
        self.requests += caller.requests;
        self.errors.extend_from_slice(&caller.errors);
        self.stale.extend_from_slice(&caller.stale);
        self.longest_read = self.longest_read.max(caller.longest_read);
        self.longest_change = self.longest_change.max(caller.longest_change);
    }

    async fn take_stock(&mut self, keys: impl Iterator<Item = &Key>, successor: &Cache) {
        for key in keys {
            let found = successor.get(&key.name).await.expect("no error").map(|found| version(&found.value));
            let (owed, last) = (key.truth.load(Ordering::Relaxed), key.last);
            match found {
                Some(found) if found != owed || last == Last::Removed => {
                    self.undone.push(format!("{} is {found}, not {owed} ({last:?})", key.name));
                }
                None if last == Last::Put => self.lost.push(format!("{} {owed}", key.name)),
                _ => {}
            }
        }
        let report = successor.stats().await.expect("a report");
        assert_eq!(report.count("store_failures"), 0, "{}: the server is not well afterwards", self.fault);
    }

    /// Nobody noticed anything but, for a moment, the price of a deadline; and all was well again by then.
    pub(crate) fn is_survived_within(&self, back_max: Duration) {
        assert_eq!(self.lost, [""; 0], "{}: puts are gone", self.fault);
        self.is_survived_but_for_losses_within(back_max);
    }

    /// As [`Record::is_survived_within`], and an outage it was: the circuit opened, and changes were journaled.
    pub(crate) fn is_an_outage_survived_within(&self, back_max: Duration) {
        self.is_survived_within(back_max);
        assert!(self.trips > 0 && self.journaled > 0, "{}: no outage, {self:?}", self.fault);
    }

    /// As [`Record::is_survived_within`], but the store may have lost puts, so that they are loaded anew.
    pub(crate) fn is_survived_but_for_losses_within(&self, back_max: Duration) {
        assert_eq!(self.errors, [""; 0], "{}: errors at callers", self.fault);
        assert_eq!(self.stale, [""; 0], "{}: older answers than owed", self.fault);
        assert_eq!(self.undone, [""; 0], "{}: changes are undone", self.fault);
        assert!(self.longest_read < READ_MAX, "{}: a read took {:?}", self.fault, self.longest_read);
        assert!(self.longest_change < CHANGE_MAX, "{}: a change took {:?}", self.fault, self.longest_change);
        assert!(self.back_after < back_max, "{}: back only after {:?}", self.fault, self.back_after);
    }
}

/// A line of the table: fault, requests, errors, longest read and change, lost, undone, trips of the circuit, and how
/// long after the fault it was back.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, requests, errors, longest_read, longest_change, lost, undone, trips, back_after, .. } = self;
        write!(f, "| {fault:<44} | {requests:>6} requests | {:>2} errors ", errors.len())?;
        write!(f, "| read {:>4} ms, change {:>4} ms ", longest_read.as_millis(), longest_change.as_millis())?;
        write!(f, "| {:>3} lost, {} undone | {trips} trips ", lost.len(), undone.len())?;
        write!(f, "| back after {:>5} ms |", back_after.as_millis())
    }
}

/// What was done to a key last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Put,
    /// Nothing is there, unless somebody loads it.
    Removed,
    /// Loaded after a removal; what is merely loaded need not get to the store.
    Loaded,
}

/// A key that one caller alone uses, so that it knows what it is owed.
struct Key {
    name: String,
    /// The version at the origin, which changes with every put and removal.
    truth: Arc<AtomicU64>,
    last: Last,
}

struct Caller {
    number: u64,
    cache: Cache,
    keys: Vec<Key>,
    requests: u64,
    errors: Vec<String>,
    stale: Vec<String>,
    longest_read: Duration,
    longest_change: Duration,
}

impl Caller {
    fn new(number: u64, cache: Cache) -> Self {
        let key = |key| Key { name: format!("own:{number}:{key}"), truth: Arc::default(), last: Last::Removed };
        Self {
            number,
            cache,
            keys: (0..KEYS).map(key).collect(),
            requests: 0,
            errors: Vec::new(),
            stale: Vec::new(),
            longest_read: Duration::ZERO,
            longest_change: Duration::ZERO,
        }
    }

    async fn work(mut self, goes_on: watch::Receiver<u64>, rounds: Arc<AtomicU64>) -> Self {
        for round in 0.. {
            if *goes_on.borrow() <= self.number {
                break;
            }
            let key = usize::try_from(round % KEYS).expect("a small number");
            match round % 5 {
                0 | 3 => self.put(key).await,
                1 => self.read(key).await,
                2 => self.read_cold(round).await,
                _ => self.remove(key).await,
            }
            rounds.fetch_add(1, Ordering::Relaxed);
            sleep(PACE).await;
        }
        self
    }

    async fn put(&mut self, key: usize) {
        let Key { name, truth, last } = &mut self.keys[key];
        let value = text(truth.fetch_add(1, Ordering::Relaxed) + 1);
        *last = Last::Put;
        let (took, outcome) = timed(self.cache.put(name, value, None)).await;
        self.note_change(took, outcome);
    }

    async fn remove(&mut self, key: usize) {
        let Key { name, truth, last } = &mut self.keys[key];
        truth.fetch_add(1, Ordering::Relaxed);
        *last = Last::Removed;
        let (took, outcome) = timed(self.cache.remove(name)).await;
        self.note_change(took, outcome);
    }

    /// The origin has what is owed, so whoever answers owes the same.
    async fn read(&mut self, key: usize) {
        let Key { name, truth, last } = &mut self.keys[key];
        let origin = Arc::clone(truth);
        let load = move |_| {
            let value = text(origin.load(Ordering::Relaxed));
            async move { Ok::<_, LoadError>(Loaded::new(value)) }
        };
        let (took, outcome) = timed(self.cache.get_or_load(name, load)).await;
        if *last == Last::Removed {
            *last = Last::Loaded;
        }
        let owed = truth.load(Ordering::Relaxed);
        match outcome.as_ref().map(|outcome| outcome.as_ref().map(|found| version(&found.value))) {
            Some(Ok(found)) if found != owed => self.stale.push(format!("{name} is {found}, not {owed}")),
            _ => {}
        }
        self.note_read(took, outcome);
    }

    /// Nobody has asked for this key before, so that the store is asked.
    async fn read_cold(&mut self, round: u64) {
        let name = format!("cold:{}:{round}", self.number);
        let load = |_| async { Ok::<_, LoadError>(Loaded::new("cold")) };
        let patient = CallOptions::new().timeout(PATIENCE);
        let (took, outcome) = timed(self.cache.get_or_load_with(&name, patient, load)).await;
        self.note_read(took, outcome);
    }

    fn note_read<T>(&mut self, took: Duration, outcome: Option<Result<T, Error>>) {
        self.longest_read = self.longest_read.max(took);
        self.note(outcome);
    }

    fn note_change<T>(&mut self, took: Duration, outcome: Option<Result<T, Error>>) {
        self.longest_change = self.longest_change.max(took);
        self.note(outcome);
    }

    fn note<T>(&mut self, outcome: Option<Result<T, Error>>) {
        self.requests += 1;
        match outcome {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.errors.push(error.to_string()),
            None => self.errors.push("a call hung".into()),
        }
    }
}

/// The outcome of a call, `None` if it hung, and how long it took.
async fn timed<T>(call: impl Future<Output = T>) -> (Duration, Option<T>) {
    let began = Instant::now();
    let outcome = timeout(HANG, call).await.ok();
    (began.elapsed(), outcome)
}

fn text(version: u64) -> String {
    format!("{version} {}", "x".repeat(100))
}

fn version(text: &[u8]) -> u64 {
    let digits = text.split(|byte| *byte == b' ').next().and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).expect("a version")
}
