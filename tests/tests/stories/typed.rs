//! Typed values over memory, a shared store and a real Redis: who decodes what and how often, what a change of codec or
//! type does, and where plain text is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tideover::codec::{Codec, CodecError, Keys};
use tideover::store::{RedisConfig, RedisStore, Store};
use tideover::testing::{ScriptedStore, Weather};
use tideover::{Cache, CallError, CallOptions, Class, EngineKind, Error, LoadError, Loaded, Source, Stale, Typed};
use tideover_tests::driving::{ENGINES, about, exact, millis, seconds};
use tideover_tests::redis_server::RedisServer;
use tokio::time::{Instant, sleep};

const KEY: &str = "user:7";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    score: f64,
}

/// The same one release later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct UserWithMail {
    name: String,
    score: f64,
    mail: String,
}

#[derive(Debug, PartialEq)]
struct Down;

fn ada() -> User {
    User { name: "Ada Lovelace".to_owned(), score: 0.1 }
}

fn cache_on(store: &ScriptedStore, engine: EngineKind) -> Cache {
    exact(engine, &[]).store(store.clone()).build().expect("a cache")
}

fn keys(id: u32) -> Keys {
    Keys::new(id, [id as u8; 32]).expect("a key")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// An origin that has one value and counts how often it is asked.
#[derive(Clone)]
struct Origin<V> {
    value: V,
    loads: Arc<AtomicUsize>,
}

impl<V: Clone + Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static> Origin<V> {
    fn of(value: V) -> Self {
        Self { value, loads: Arc::default() }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }

    /// Takes ten milliseconds.
    async fn through(&self, cache: &Typed<V>) -> (Arc<V>, Source) {
        let origin = self.clone();
        let load = move |_| {
            let origin = origin.clone();
            async move {
                origin.loads.fetch_add(1, Ordering::Relaxed);
                sleep(millis(10)).await;
                Ok::<_, Down>(origin.value)
            }
        };
        let fetched = cache.get_or_load(KEY, load).await.expect("a value");
        (fetched.value, fetched.source)
    }
}

#[tokio::test(start_paused = true)]
async fn leader_followers_and_later_hits_share_one_value() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache").typed::<User>();
    let origin = Origin::of(ada());
    let all = join_all((0..20).map(|_| origin.through(&cache))).await;
    let (first, _) = &all[0];
    assert!(all.iter().all(|(value, _)| Arc::ptr_eq(value, first)));
    let (hit, source) = origin.through(&cache).await;
    assert!(Arc::ptr_eq(&hit, first));
    assert_eq!((source, origin.loads(), &**first), (Source::Memory, 1, &ada()));
    let peeked = cache.get(KEY).await.expect("an answer").expect("a value");
    assert!(Arc::ptr_eq(&peeked.value, first));
}

#[tokio::test(start_paused = true)]
async fn what_a_store_had_is_decoded_once() {
    let store = ScriptedStore::default();
    let (writer, reader) = (cache_on(&store, EngineKind::Native), cache_on(&store, EngineKind::Native));
    writer.typed().put(KEY, &ada()).await.expect("a put");
    let reader = reader.typed::<User>();
    let first = reader.get(KEY).await.expect("an answer").expect("a value");
    let second = reader.get(KEY).await.expect("an answer").expect("a value");
    assert_eq!((first.source, second.source, &*first.value), (Source::Store, Source::Memory, &ada()));
    assert!(Arc::ptr_eq(&first.value, &second.value));
}

#[tokio::test(start_paused = true)]
async fn processes_with_different_codecs_read_each_other() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let codecs = [Codec::json(), Codec::message_pack().compress_over(10), Codec::postcard()];
        for writer in &codecs {
            cache_on(&store, engine).typed().codec(writer.clone()).put(KEY, &ada()).await.expect("a put");
            for reader in &codecs {
                let reader = cache_on(&store, engine).typed::<User>().codec(reader.clone());
                let read = reader.get(KEY).await.expect("an answer").expect("a value");
                assert_eq!((&*read.value, read.source), (&ada(), Source::Store), "{engine:?} {writer:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_cannot_be_decoded_are_a_miss_and_loaded_anew_once_for_all() {
    for &engine in ENGINES {
        for peek_first in [false, true] {
            let store = ScriptedStore::default();
            let cache = cache_on(&store, engine).typed::<User>();
            cache_on(&store, engine).put(KEY, "written by hand", None).await.expect("a put");
            sleep(seconds(1)).await;
            if peek_first {
                assert!(cache.get(KEY).await.expect("an answer").is_none(), "{engine:?}");
            }
            let origin = Origin::of(ada());
            let all = join_all((0..20).map(|_| origin.through(&cache))).await;
            assert!(all.iter().all(|(value, _)| **value == ada()), "{engine:?}");
            assert_eq!((origin.through(&cache).await.1, origin.loads()), (Source::Memory, 1), "{engine:?}");
            let healed = cache_on(&store, engine).typed::<User>().get(KEY).await.expect("an answer");
            assert_eq!(healed.map(|healed| healed.source), Some(Source::Store), "{engine:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_field_is_a_miss_and_loaded_anew_once() {
    for &engine in ENGINES {
        for codec in [Codec::json(), Codec::message_pack(), Codec::postcard()] {
            let store = ScriptedStore::default();
            let cache = cache_on(&store, engine).typed::<UserWithMail>().codec(codec.clone());
            cache_on(&store, engine).typed().codec(codec.clone()).put(KEY, &ada()).await.expect("a put");
            sleep(seconds(1)).await;
            let User { name, score } = ada();
            let origin = Origin::of(UserWithMail { name, score, mail: "ada@example.org".to_owned() });
            for _ in 0..3 {
                assert_eq!(*origin.through(&cache).await.0, origin.value, "{engine:?} {codec:?}");
            }
            assert_eq!(origin.loads(), 1, "{engine:?} {codec:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_down_tells_so_itself_where_what_is_cached_cannot_be_decoded() {
    for &engine in ENGINES {
        for stale_if_error in ["0s", "1h"] {
            let store = ScriptedStore::default();
            let options = [("ttl", "5m"), ("stale_if_error", stale_if_error)];
            let cache = || exact(engine, &options).store(store.clone()).build().expect("a cache");
            cache().put(KEY, "written by hand", None).await.expect("a put");
            let cache = cache().typed::<User>();
            sleep(seconds(1)).await;
            for _ in 0..2 {
                let failed = cache.get_or_load(KEY, |_| async { Err::<User, _>(Down) }).await.expect_err("no value");
                assert_eq!(failed.loader(), Some(&Down), "{engine:?}, {stale_if_error}: {failed:?}");
                sleep(seconds(301)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_no_earlier_value_to_a_loader() {
    for &engine in ENGINES {
        let cache = exact(engine, &[]).build().expect("a cache");
        cache.put(KEY, "written by hand", None).await.expect("a put");
        let cache = cache.typed::<User>();
        let fetched = cache.get_or_load(KEY, |context| async move {
            assert!(context.previous.is_none(), "else it might say that it is not modified");
            Ok::<_, Down>(ada())
        });
        assert_eq!(*fetched.await.expect("a value").value, ada(), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_codec_cannot_keep_fails_loudly_and_leaves_nothing() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine).typed::<Option<f64>>();
        for _ in 0..2 {
            let loaded = cache.get_or_load(KEY, |_| async { Ok::<_, Down>(Some(f64::NAN)) }).await;
            let inexact = matches!(loaded, Err(CallError::Cache(Error::Codec(CodecError::Inexact { .. }))));
            assert!(inexact, "{engine:?}: {loaded:?}");
        }
        assert_eq!((store.value(KEY).await, cache.get(KEY).await.expect("an answer")), (None, None), "{engine:?}");

        cache.put(KEY, &Some(1.5)).await.expect("a put");
        let put = cache.put(KEY, &Some(f64::NAN)).await;
        assert!(matches!(put, Err(Error::Codec(CodecError::Inexact { .. }))), "{engine:?}: {put:?}");
        let kept = cache.get(KEY).await.expect("an answer").expect("a value");
        assert_eq!(*kept.value, Some(1.5), "{engine:?}: what was there stays");

        let all_floats = cache.codec(Codec::postcard());
        all_floats.put(KEY, &Some(f64::INFINITY)).await.expect("postcard keeps it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_codec_cannot_keep_is_no_failure_of_the_origin_and_masked_by_nothing() {
    for &engine in ENGINES {
        let options =
            [("ttl", "10s"), ("stale_if_error", "1h"), ("load_attempts", "3"), ("load_breaker_failures", "5")];
        let cache = exact(engine, &options).build().expect("a cache").typed::<f64>();
        cache.put(KEY, &1.5).await.expect("a put");
        sleep(seconds(20)).await;
        let refused = |answer: Result<_, CallError<Down>>| {
            let inexact = matches!(answer, Err(CallError::Cache(Error::Codec(CodecError::Inexact { .. }))));
            assert!(inexact, "{engine:?}: {answer:?}");
        };
        for key in std::iter::once(KEY.to_owned()).chain((0..20).map(|number| format!("reading:{number}"))) {
            refused(cache.get_or_load(&key, |_| async { Ok(f64::NAN) }).await);
        }
        let report = cache.cache().stats().await.expect("counts");
        assert_eq!(
            (report.count("loads"), report.load_breaker.stats.failures),
            (21, 0),
            "{engine:?}: none was made again"
        );
        let other = cache.get_or_load("other", |_| async { Ok::<_, Down>(2.5) }).await.expect("the circuit is closed");
        assert_eq!(*other.value, 2.5, "{engine:?}");
    }
}

/// What a loader brings that fails like this: the answer, and how often it was called.
async fn failing(cache: &Typed<u32>, key: &str, error: LoadError) -> (Result<Option<Stale>, Arc<LoadError>>, usize) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let answer = cache.get_or_load(key, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let error = error.clone();
        async move { Err::<u32, _>(error) }
    });
    let answer = match answer.await {
        Ok(fetched) => Ok(fetched.stale),
        Err(CallError::Loader(own)) => Err(own),
        Err(CallError::Cache(error)) => panic!("not the loader's own: {error}"),
    };
    (answer, calls.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn an_error_of_this_crate_is_what_it_says_it_is() {
    for &engine in ENGINES {
        let options = [
            ("ttl", "10s"),
            ("stale_if_error", "1h"),
            ("load_attempts", "2"),
            ("load_breaker_failures", "100"),
            ("retry_budget", "0"),
        ];
        let cache = exact(engine, &options).build().expect("a cache").typed::<u32>();
        let failures = async || cache.cache().stats().await.expect("counts").load_breaker.stats.failures;
        for key in ["answer", "isolated", "timed out", "unavailable"] {
            cache.put(key, &7).await.expect("a put");
        }
        sleep(seconds(20)).await;

        let (answer, calls) = failing(&cache, "answer", LoadError::answer("gone").with_detail("page".into())).await;
        let own = answer.expect_err("nothing masks an answer");
        assert_eq!((own.class(), own.detail().as_ref(), calls), (Class::Answer, &b"page"[..], 1), "{engine:?}");
        let (answer, calls) = failing(&cache, "isolated", LoadError::isolated("one shard is down")).await;
        assert_eq!((answer.expect("stale"), calls), (Some(Stale::IfError), 2), "{engine:?}");
        assert_eq!(failures().await, 0, "{engine:?}: neither speaks against the origin");

        for (key, error) in
            [("timed out", LoadError::timed_out("late")), ("unavailable", LoadError::unavailable("down"))]
        {
            let (answer, calls) = failing(&cache, key, error.clone()).await;
            assert_eq!((answer.expect("stale"), calls), (Some(Stale::IfError), 2), "{engine:?} {key}");
            let (answer, _) = failing(&cache, "unknown", error.clone()).await;
            assert_eq!(answer.expect_err("nothing stands in").class(), error.class(), "{engine:?} {key}");
        }
        assert_eq!(failures().await, 8, "{engine:?}");
    }
}

/// The origin asks to be left alone for so many seconds.
#[derive(Debug, PartialEq)]
struct Busy(u64);

#[tokio::test(start_paused = true)]
async fn an_origin_is_asked_again_when_it_said() {
    for &engine in ENGINES {
        let options = [("load_attempts", "2"), ("retry_base", "100ms")];
        let cache = exact(engine, &options).build().expect("a cache");
        let told = cache.typed::<u32>().retry_after(|busy: &Busy| Some(seconds(busy.0)).filter(|wait| !wait.is_zero()));

        let began = Instant::now();
        let load = |context: tideover::LoadContext<_>| async move {
            if context.attempt == 1 { Err(Busy(3)) } else { Ok(7_u32) }
        };
        assert_eq!(*told.get_or_load("k", load).await.expect("the second attempt succeeds").value, 7, "{engine:?}");
        assert!(about(began, seconds(3)), "{engine:?}: {:?}", began.elapsed());

        let (began, own) = (Instant::now(), LoadError::unavailable("busy").retry_after(seconds(3)));
        let (_, calls) = failing(&cache.typed(), "own", own).await;
        assert!(calls == 2 && about(began, seconds(3)), "{engine:?}: {:?}", began.elapsed());

        let began = Instant::now();
        let late = |_| async { Err::<u32, _>(Busy(3_600)) };
        let bytes = cache.get_or_load("late", |_| async { panic!("it joins the load under way") });
        let (typed, bytes) = tokio::join!(told.get_or_load("late", late), bytes);
        assert_eq!(typed.expect_err("no value").loader(), Some(&Busy(3_600)), "{engine:?}");
        assert_eq!(bytes.expect_err("no value").retry_after(), Some(seconds(3_600)), "{engine:?}");
        assert!(began.elapsed() < seconds(1), "{engine:?}: no attempt is made past the deadline");

        let silent = told.get_or_load("silent", |_| async { Err::<u32, _>(Busy(0)) });
        assert!(silent.await.is_err() && began.elapsed() < seconds(1), "{engine:?}: the schedule's own wait");
    }
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_value_put_in_the_place_of_another_is_a_miss() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let mallory = cache_on(&store, engine);
        let codec = Codec::json().encrypted(keys(1));
        let typed = |cache: Cache| cache.typed::<User>().codec(codec.clone());
        typed(cache_on(&store, engine)).put("user:8", &ada()).await.expect("a put");
        let moved = store.value("user:8").await.expect("a value");
        let plain = Bytes::from_static(b"\xC1\x01\x01\x00{\"name\":\"Mallory\",\"score\":1.0}");
        for frame in [moved, plain] {
            let victim = typed(cache_on(&store, engine));
            mallory.put(KEY, frame, None).await.expect("a put");
            sleep(seconds(1)).await;
            assert!(victim.get(KEY).await.expect("an answer").is_none(), "{engine:?}");
            let origin = Origin::of(User { name: "Grace".to_owned(), score: 2.0 });
            assert_eq!(*origin.through(&victim).await.0, origin.value, "{engine:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_rotated_while_processes_run() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let with = |keys: Keys| cache_on(&store, engine).typed::<User>().codec(Codec::postcard().encrypted(keys));
        let old = with(keys(1));
        let knows_both = with(keys(1).and(2, [2; 32]).expect("another key"));
        let rotated = with(keys(2).and(1, [1; 32]).expect("another key"));
        old.put(KEY, &ada()).await.expect("a put");
        for cache in [&knows_both, &rotated] {
            assert!(cache.get(KEY).await.expect("an answer").is_some(), "{engine:?}");
        }
        rotated.put("user:8", &ada()).await.expect("a put");
        assert!(knows_both.get("user:8").await.expect("an answer").is_some(), "{engine:?}");
        assert!(old.get("user:8").await.expect("an answer").is_none(), "{engine:?}: it does not know the key");
    }
}

#[tokio::test]
async fn plain_text_is_neither_in_redis_nor_in_memory_nor_in_a_snapshot() {
    let server = RedisServer::start();
    let store = || RedisStore::new(RedisConfig::new(server.url())).expect("a good configuration");
    let cache = Cache::builder().store(store()).build().expect("a cache");
    let secret = cache.typed::<User>().codec(Codec::json().encrypted(keys(1)));
    let origin = Origin::of(ada());
    origin.through(&secret).await;
    secret.put("user:8", &ada()).await.expect("a put");
    cache.typed().put("user:9", &ada()).await.expect("a put");

    let peek = store();
    let in_redis = async |key| peek.read(key).await.expect("an answer").expect("a value");
    // The load's own write to the store is waited for by nobody.
    let written = async {
        while peek.read(KEY).await.expect("an answer").is_none() {
            sleep(millis(5)).await;
        }
    };
    tokio::time::timeout(seconds(10), written).await.expect("it gets to the store");
    assert!(contains(&in_redis("user:9").await, "Lovelace"), "this is how it would look");
    for key in [KEY, "user:8"] {
        assert!(!contains(&in_redis(key).await, "Lovelace"));
        let in_memory = cache.get(key).await.expect("an answer").expect("a value");
        assert!(in_memory.source == Source::Memory && !contains(&in_memory.value, "Lovelace"));
    }
    cache.remove("user:9").await.expect("a removal");
    let snapshot = cache.snapshot().await.expect("a snapshot");
    assert!(contains(&snapshot, KEY) && !contains(&snapshot, "Lovelace"));

    let elsewhere = Cache::builder().store(store()).build().expect("a cache").typed::<User>();
    assert!(elsewhere.get(KEY).await.expect("an answer").is_none(), "without keys it is a miss");
    let elsewhere = elsewhere.codec(Codec::json().encrypted(keys(1)));
    assert_eq!(*elsewhere.get(KEY).await.expect("an answer").expect("a value").value, ada());
    assert_eq!(origin.loads(), 1);
}

#[tokio::test]
async fn bytes_written_a_moment_ago_are_loaded_anew_as_well() {
    let server = RedisServer::start();
    let cache = || {
        let store = RedisStore::new(RedisConfig::new(server.url())).expect("a good configuration");
        Cache::builder().store(store).build().expect("a cache")
    };
    let (by_hand, typed) = (cache(), cache().typed::<User>());
    for number in 0..50 {
        let key = format!("user:{number}");
        by_hand.put(&key, "written by hand", None).await.expect("a put");
        let fetched = typed.get_or_load(&key, |_| async { Ok::<_, Down>(ada()) }).await.expect("a value");
        assert_eq!((&*fetched.value, fetched.source), (&ada(), Source::Load));
    }
}

#[tokio::test(start_paused = true)]
async fn typed_values_outlive_an_outage_of_the_store_stale_windows_and_all() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let options = [("ttl", "10s"), ("stale_if_error", "1h")];
        let cache = exact(engine, &options).store(store.clone()).build().expect("a cache").typed::<User>();
        Origin::of(ada()).through(&cache).await;
        store.set(Weather::Away);
        sleep(seconds(20)).await;
        let options = CallOptions::new().timeout(seconds(5));
        let stale = cache.get_or_load_with(KEY, options, |_| async { Err::<User, _>(Down) }).await.expect("a value");
        assert!(stale.is_stale() && *stale.value == ada(), "{engine:?}");
        sleep(seconds(5)).await;
        let revalidated = cache.get_or_load(KEY, |context| async move {
            let previous = context.previous.map(|entry| entry.value);
            if previous.as_deref() == Some(&ada()) { Ok(Loaded::not_modified()) } else { Err(Down) }
        });
        let revalidated = revalidated.await.expect("a value");
        assert!(!revalidated.is_stale() && *revalidated.value == ada(), "{engine:?}");
    }
}
