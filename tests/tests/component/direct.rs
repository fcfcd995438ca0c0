//! Direct operations in a host of one's own, which has nothing but the component: the same script is answered as by the
//! native machine, and both kinds of process share what is in a store.

use std::fmt::Debug;
use std::time::Duration;

use tideover::direct::Answer;
use tideover::store::{Cursor, RedisConfig, RedisStore, Remaining, Store, StoreError};
use tideover::testing::{self, ScriptedStore, Weather};
use tideover::{Direct, Error};
use tideover_core::entropy::Entropy;
use tideover_tests::embedder::generated::tideover::cache::direct_types::{Lifetime, Page, Unanswered, When};
use tideover_tests::embedder::generated::tideover::cache::types;
use tideover_tests::embedder::{Instance, embed};
use tideover_tests::redis_server::RedisServer;
use tokio::task::block_in_place;
use tokio::time::sleep;

const SEED: u64 = 7;

/// What is in the script.
#[derive(Debug, Clone)]
enum Line {
    Weather(Weather),
    After(Duration),
    Ask(Ask),
}

#[derive(Debug, Clone)]
enum Ask {
    Get(&'static str),
    GetMany,
    Exists(&'static str),
    Put(&'static str, &'static str, Option<Duration>, When),
    PutMany(Option<Duration>),
    Take(&'static str),
    Remove(&'static str),
    RemoveMany,
    Increment(&'static str, i64, Option<Duration>),
    SetTtl(&'static str, Option<Duration>),
    Remaining(&'static str),
    RemoveMatching(&'static str),
    Scan(&'static str),
    Clear,
    Ping,
}

const KEYS: [&str; 4] = ["a", "b", "ab", "n"];

/// What happens, drawn from a seed.
struct Draw(Entropy);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.bits() % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("a small number")]
    }

    fn ttl(&mut self) -> Option<Duration> {
        (self.below(2) == 0).then(|| Duration::from_secs(self.below(20)))
    }

    fn ask(&mut self) -> Ask {
        let (key, ttl, value) = (self.of(&KEYS), self.ttl(), self.of(&["1", "2", "text"]));
        match self.below(20) {
            0 | 1 => Ask::Get(key),
            2 => Ask::GetMany,
            3 => Ask::Exists(key),
            4..=7 => Ask::Put(key, value, ttl, self.of(&[When::Always, When::Absent, When::Present])),
            8 => Ask::PutMany(ttl),
            9 => Ask::Take(key),
            10 => Ask::Remove(key),
            11 => Ask::RemoveMany,
            12..=14 => Ask::Increment(key, 3, ttl),
            15 => Ask::SetTtl(key, ttl),
            16 => Ask::Remaining(key),
            17 => Ask::RemoveMatching(self.of(&["a*", "*", r"\*"])),
            18 => Ask::Scan(self.of(&["a*", "*"])),
            _ if self.below(4) == 0 => Ask::Clear,
            _ => Ask::Ping,
        }
    }

    fn line(&mut self) -> Line {
        match self.below(10) {
            0 => Line::Weather(Weather::Away),
            1 => Line::Weather(self.of(&[Weather::Away, Weather::Fair])),
            2 => Line::After(Duration::from_millis(self.below(8_000))),
            _ => Line::Ask(self.ask()),
        }
    }
}

/// The script of a seed: the store goes and comes, and is fair in the end.
fn script(seed: u64) -> Vec<Line> {
    let mut draw = Draw(Entropy::from_seed(seed));
    let mut script: Vec<_> = (0..100).map(|_| draw.line()).collect();
    script.extend([Line::Weather(Weather::Fair), Line::After(Duration::from_secs(70))]);
    script.extend(KEYS.map(|key| Line::Ask(Ask::Get(key))));
    script
}

/// Who is asked.
trait Process {
    async fn ask(&self, ask: &Ask) -> String;

    async fn owed(&self) -> u64;
}

/// Plays the script, and tells what was answered. By whom is another matter: a round of either may come sooner.
async fn play(script: &[Line], store: &ScriptedStore, process: &impl Process) -> Vec<String> {
    let (mut told, began) = (Vec::new(), tokio::time::Instant::now());
    for line in script {
        match line {
            Line::Weather(weather) => store.set(*weather),
            Line::After(time) => sleep(*time).await,
            Line::Ask(ask) => told.push(format!("{:?} {ask:?}: {}", began.elapsed(), process.ask(ask).await)),
        }
    }
    told.push(format!("{} owed", process.owed().await));
    told
}

impl Process for Direct {
    async fn ask(&self, ask: &Ask) -> String {
        match *ask {
            Ask::Get(key) => told(self.get(key).await),
            Ask::GetMany => told(self.get_many(&KEYS).await),
            Ask::Exists(key) => told(self.exists(key).await),
            Ask::Put(key, value, ttl, When::Always) => {
                told(self.put(key, value, ttl).await.map(|put| put.map(|()| true)))
            }
            Ask::Put(key, value, ttl, When::Absent) => told(self.put_if_absent(key, value, ttl).await),
            Ask::Put(key, value, ttl, When::Present) => told(self.put_if_present(key, value, ttl).await),
            Ask::PutMany(ttl) => told(self.put_many(&[("a", "7".into()), ("b", "8".into())], ttl).await),
            Ask::Take(key) => told(self.take(key).await),
            Ask::Remove(key) => told(self.remove(key).await),
            Ask::RemoveMany => told(self.remove_many(&KEYS[..2]).await),
            Ask::Increment(key, by, ttl) => told(self.increment(key, by, ttl).await),
            Ask::SetTtl(key, ttl) => told(self.set_ttl(key, ttl).await),
            Ask::Remaining(key) => told(self.remaining(key).await),
            Ask::RemoveMatching(pattern) => told(self.remove_matching(pattern).await),
            Ask::Scan(pattern) => told(self.scan(pattern, &Cursor::default(), 10).await.map(|page| page.map(keys))),
            Ask::Clear => told(self.clear().await),
            Ask::Ping => told(self.ping().await),
        }
    }

    async fn owed(&self) -> u64 {
        self.stats().owed
    }
}

fn keys(page: tideover::store::Page) -> Vec<String> {
    let mut keys = page.keys;
    keys.sort();
    keys
}

fn told<T: Debug>(answer: Result<Answer<T>, Error>) -> String {
    match answer {
        Ok(answer) => format!("{:?}", answer.value),
        Err(Error::OutcomeUnknown { .. }) => "outcome unknown".to_owned(),
        Err(Error::StoreRefused { .. }) => "refused".to_owned(),
        Err(Error::Store { store }) => format!("away {store:?}"),
        Err(Error::JournalFull { max, .. }) => format!("full {max}"),
        Err(error) => format!("{error:?}"),
    }
}

fn nanos(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_nanos()).expect("a short time"))
}

fn bytes(value: Option<Vec<u8>>) -> Option<bytes::Bytes> {
    value.map(Into::into)
}

fn lifetime(left: Lifetime) -> Remaining {
    match left {
        Lifetime::NoSuchKey => Remaining::NoSuchKey,
        Lifetime::Forever => Remaining::Forever,
        Lifetime::Left(left) => Remaining::Left(Duration::from_nanos(left)),
    }
}

fn answered<T, U: Debug>(answer: Result<(T, types::Source), Unanswered>, of: impl FnOnce(T) -> U) -> String {
    match answer {
        Ok((value, _source)) => format!("{:?}", of(value)),
        Err(Unanswered::OutcomeUnknown) => "outcome unknown".to_owned(),
        Err(Unanswered::ByStore | Unanswered::NotANumber) => "refused".to_owned(),
        Err(Unanswered::JournalFull(max)) => format!("full {max}"),
        Err(other) => format!("{other:?}"),
    }
}

fn done(answer: Result<types::Source, Unanswered>) -> String {
    answered(answer.map(|source| ((), source)), |()| ())
}

impl Process for Instance<'_> {
    async fn ask(&self, ask: &Ask) -> String {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        match *ask {
            Ask::Get(key) => answered(self.get(key.into()).await, bytes),
            Ask::GetMany => {
                answered(self.get_many(owned(&KEYS)).await, |values| values.into_iter().map(bytes).collect::<Vec<_>>())
            }
            Ask::Exists(key) => answered(self.exists(key.into()).await, |exists| exists),
            Ask::Put(key, value, ttl, when) => {
                answered(self.put(key.into(), value.into(), nanos(ttl), when).await, |held| held)
            }
            Ask::PutMany(ttl) => {
                let entries = vec![("a".to_owned(), b"7".to_vec()), ("b".to_owned(), b"8".to_vec())];
                done(self.put_many(entries, nanos(ttl)).await)
            }
            Ask::Take(key) => answered(self.take(key.into()).await, bytes),
            Ask::Remove(key) => answered(self.remove(key.into()).await, |was_there| was_there),
            Ask::RemoveMany => answered(self.remove_many(owned(&KEYS[..2])).await, |count| count),
            Ask::Increment(key, by, ttl) => answered(self.increment(key.into(), by, nanos(ttl)).await, |sum| sum),
            Ask::SetTtl(key, ttl) => answered(self.set_ttl(key.into(), nanos(ttl)).await, |was_there| was_there),
            Ask::Remaining(key) => answered(self.remaining(key.into()).await, lifetime),
            Ask::RemoveMatching(pattern) => answered(self.remove_matching(pattern.into()).await, |count| count),
            Ask::Scan(pattern) => answered(self.scan(pattern.into(), String::new(), 10).await, |page: Page| {
                let mut keys = page.keys;
                keys.sort();
                keys
            }),
            Ask::Clear => done(self.clear().await),
            Ask::Ping => done(self.ping().await),
        }
    }

    async fn owed(&self) -> u64 {
        self.stats().await.iter().find(|count| count.name == "direct_owed").map_or(0, |count| count.value)
    }
}

#[tokio::test(start_paused = true)]
async fn the_component_and_the_native_machine_answer_the_same_script_alike() {
    for seed in 0..60 {
        let script = script(seed);
        let store = ScriptedStore::default();
        let native = testing::builder().seed(SEED).store(store.clone()).build().expect("a cache").direct();
        let by_native = play(&script, &store, &native).await;
        let store = ScriptedStore::default();
        let by_component =
            embed(store.clone(), &[], SEED, async |instance| play(&script, &store, &instance).await).await;
        assert_eq!(by_native, by_component, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_both_have_counted_in_an_outage_is_added_up() {
    let store = ScriptedStore::default();
    let native = testing::builder().store(store.clone()).build().expect("a cache").direct();
    embed(store.clone(), &[], SEED, async |instance| {
        assert_eq!(instance.increment("visits".into(), 5, None).await, Ok((5, types::Source::Store)));
        assert_eq!(native.increment("visits", 1, None).await.expect("it is answered").value, 6);
        store.set(Weather::Away);
        assert_eq!(instance.increment("visits".into(), 10, None).await, Ok((15, types::Source::Fallback)));
        assert_eq!(native.increment("visits", 100, None).await.expect("it is answered").value, 106);
        store.set(Weather::Fair);
        sleep(Duration::from_secs(5)).await;
        instance.idle().await;
        assert_eq!(instance.get("visits".into()).await, Ok((Some(b"116".to_vec()), types::Source::Store)));
        assert_eq!(native.get("visits").await.expect("it is answered").value.as_deref(), Some(&b"116"[..]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_holds_nobody_past_the_deadline_and_trips_the_circuit_of_direct_operations() {
    let store = ScriptedStore::with(Weather::Hung);
    embed(store.clone(), &[("store_breaker_failures", "2")], SEED, async |instance| {
        for _ in 0..2 {
            let began = tokio::time::Instant::now();
            assert_eq!(instance.get("k".into()).await, Ok((None, types::Source::Fallback)));
            assert_eq!(began.elapsed(), Duration::from_millis(250));
        }
        let began = tokio::time::Instant::now();
        let put = instance.put("k".into(), b"v".to_vec(), None, When::Always).await;
        assert_eq!((put, began.elapsed()), (Ok((true, types::Source::Fallback)), Duration::ZERO));
        assert!(matches!(instance.circuit().await.state, types::BreakerState::Open(_)));
        store.set(Weather::Fair);
        instance.reset_circuit().await;
        assert_eq!(instance.get("k".into()).await, Ok((Some(b"v".to_vec()), types::Source::Store)));
        instance.set_circuit_mode(types::BreakerMode::ForcedOpen).await;
        assert_eq!(instance.ping().await, Ok(types::Source::Fallback));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_store_cannot_do_and_what_is_past_a_limit_is_refused() {
    let settings = [("key_bytes_max", "8"), ("value_bytes_max", "4"), ("journal_max", "1")];
    let store = ScriptedStore::default();
    embed(store.clone(), &settings, SEED, async |instance| {
        let long = instance.get("far too long".into()).await;
        assert!(matches!(long, Err(Unanswered::Refused(types::Refusal::KeyTooLong(limit))) if limit.max == 8));
        let large = instance.put("k".into(), b"large".to_vec(), None, When::Always).await;
        assert!(matches!(large, Err(Unanswered::Refused(types::Refusal::ValueTooLarge(limit))) if limit.brought == 5));
        let strange = instance.scan("*".into(), "none of ours".into(), 10).await;
        assert!(matches!(strange, Err(Unanswered::Cursor)));
        store.set(Weather::Away);
        assert!(instance.remove("a".into()).await.is_ok());
        assert_eq!(instance.remove("b".into()).await, Err(Unanswered::JournalFull(1)));
    })
    .await;
    embed(Plain(ScriptedStore::default()), &[], SEED, async |instance| {
        assert_eq!(instance.put("k".into(), b"1".to_vec(), None, When::Always).await, Ok((true, types::Source::Store)));
        assert_eq!(instance.increment("k".into(), 1, None).await, Err(Unanswered::ByStore));
        assert_eq!(instance.put("k".into(), b"2".to_vec(), None, When::Absent).await, Err(Unanswered::ByStore));
        assert_eq!(instance.get("k".into()).await, Ok((Some(b"1".to_vec()), types::Source::Store)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_it_is_owed_goes_from_a_store_that_can_do_nothing_else() {
    let store = ScriptedStore::default();
    embed(Plain(store.clone()), &[], SEED, async |instance| {
        let put = async |value: &str, ttl| instance.put("k".into(), value.into(), ttl, When::Always).await;
        assert_eq!(put("1", None).await, Ok((true, types::Source::Store)));
        store.set(Weather::Away);
        assert_eq!(put("2", Some(1_000_000_000)).await, Ok((true, types::Source::Fallback)));
        sleep(Duration::from_secs(2)).await;
        store.set(Weather::Fair);
        assert_eq!(instance.pay_up().await, 0);
        assert_eq!(instance.get("k".into()).await, Ok((None, types::Source::Store)));
        assert_eq!(store.read("!direct:k").await.expect("it is fair"), None);
    })
    .await;
}

/// A real server that is frozen, and killed and restarted with its data: nobody waits past the deadline of the change, and
/// no count is lost or doubled but those that nobody knows of.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_frozen_and_killed_loses_no_count_of_the_component() {
    let mut server = RedisServer::start_with_arguments(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::new(RedisConfig::new(server.url())).expect("a good configuration");
    embed(store, &[("store_breaker_open_for", "250ms")], SEED, async |instance| {
        let (mut counted, mut unknown, mut by_fallback, mut longest) = (0, 0, 0, Duration::ZERO);
        for round in 0..60 {
            match round {
                10 => block_in_place(|| server.freeze()),
                30 => block_in_place(|| server.thaw()),
                40 => block_in_place(|| server.kill()),
                50 => block_in_place(|| server.restart()),
                _ => {}
            }
            let began = std::time::Instant::now();
            match instance.increment("visits".into(), 1, None).await {
                Ok((_, source)) => {
                    counted += 1;
                    by_fallback += i64::from(source == types::Source::Fallback);
                }
                Err(Unanswered::OutcomeUnknown) => unknown += 1,
                Err(other) => panic!("round {round}: {other:?}"),
            }
            longest = longest.max(began.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        let began = std::time::Instant::now();
        while instance.pay_up().await > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "it is never paid");
            sleep(Duration::from_millis(100)).await;
        }
        let there: i64 = server.command(&["GET", "tideover:!direct:visits"]).parse().expect("a number");
        assert!(by_fallback > 10, "{by_fallback}: the server was never away");
        assert!((counted..=counted + unknown).contains(&there), "{there} of {counted} and {unknown}");
        assert!(longest < Duration::from_secs(4), "{longest:?}");
    })
    .await;
}

/// A store that has but what every store has.
struct Plain(ScriptedStore);

type Asked<'a, T> = futures_util::future::BoxFuture<'a, Result<T, StoreError>>;

impl Store for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Option<bytes::Bytes>> {
        self.0.read(key)
    }

    fn write<'a>(&'a self, key: &'a str, value: bytes::Bytes, ttl: Option<Duration>) -> Asked<'a, ()> {
        self.0.write(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> Asked<'a, ()> {
        self.0.remove(key)
    }

    fn clear(&self) -> Asked<'_, ()> {
        self.0.clear()
    }

    fn ping(&self) -> Asked<'_, ()> {
        self.0.ping()
    }

    fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
        self.0.close()
    }
}
