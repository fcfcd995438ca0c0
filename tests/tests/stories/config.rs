//! Caches made of a configuration, on a real server: what prefix and version keep apart, and what reaches the cache.

use std::time::Duration;

use tideover::config::{Config, ConfigBuilder, ConfigError};
use tideover::store::{MemoryStore, Reach};
use tideover::{Cache, CallOptions, EngineKind, Error, Loaded, Source, Ttl};
use tideover_tests::redis_server::RedisServer;
use tokio::time::{sleep, timeout};

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(30);

/// As a process of that version is configured by its environment.
fn of_version(server: &RedisServer, version: &str) -> ConfigBuilder {
    let url = server.url();
    Config::builder().variables([("CACHE_URL", url.as_str()), ("CACHE_PREFIX", "shop"), ("CACHE_VERSION", version)])
}

fn cache(server: &RedisServer, version: &str) -> Cache {
    of_version(server, version).build().expect("a cache")
}

async fn get(cache: &Cache, key: &str) -> Option<String> {
    let found = timeout(HANG, cache.get(key)).await.expect("no hang").expect("no error");
    found.map(|found| String::from_utf8_lossy(&found.value).into_owned())
}

async fn put(cache: &Cache, key: &str, value: &'static str) {
    timeout(HANG, cache.put(key, value, None)).await.expect("no hang").expect("a put");
}

/// How many entries lie under the namespace on the server.
fn entries(server: &RedisServer, namespace: &str) -> usize {
    let keys = server.command(&["KEYS", &format!("{namespace}k*")]);
    keys.lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn two_versions_on_one_server_do_not_see_each_other_and_clear_their_own() {
    let server = RedisServer::start();
    let versions = ["1", "2", "12"];
    for version in versions {
        let writer = cache(&server, version);
        for key in ["k1", "k2", "k3"] {
            put(&writer, key, if version == "2" { "of two" } else { "of another" }).await;
        }
        writer.shutdown().await;
    }
    let old = cache(&server, "1");
    assert_eq!(get(&old, "k1").await.as_deref(), Some("of another"));
    assert_eq!(get(&cache(&server, "2"), "k1").await.as_deref(), Some("of two"));
    assert_eq!(get(&cache(&server, "3"), "k1").await, None);

    timeout(HANG, old.clear()).await.expect("no hang").expect("a clear");
    let swept = async {
        while entries(&server, "shop@1:") > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, swept).await.expect("its own entries go");
    assert_eq!((entries(&server, "shop@2:"), entries(&server, "shop@12:")), (3, 3));
    assert_eq!(get(&cache(&server, "1"), "k2").await, None);
    assert_eq!(get(&cache(&server, "2"), "k2").await.as_deref(), Some("of two"));
    assert_eq!(get(&cache(&server, "12"), "k2").await.as_deref(), Some("of another"));
}

#[tokio::test]
async fn what_is_configured_reaches_the_cache_on_every_engine() {
    let server = RedisServer::start();
    for engine in EngineKind::ALL {
        let name = Cache::builder().engine(*engine).build().expect("a cache").engine();
        let text =
            "preset = 'production'\n[redis]\nbackplane = 'off'\n[ttl]\nlong = '2h'\n[policy]\nload_attempts = 3\n";
        let config = of_version(&server, name).toml("cache.toml", text).set("engine", name);
        let cache = config.build().expect("a cache");
        assert_eq!((cache.engine(), cache.store()), (name, Some("redis")));
        assert_eq!(cache.ttl_named("long"), Some(Duration::from_secs(7200)));
        assert_eq!(cache.ttl_of(Ttl::Default), Duration::from_secs(300));
        assert_eq!((cache.policy().load_attempts, cache.policy().lease), (3, true));
        assert_ne!(cache.guarantees().map(|holds| holds.changed_keys), Some(Reach::AtOnce));
        let load = |_| async { Ok(Loaded::new("v")) };
        let found = timeout(HANG, cache.get_or_load("k", load)).await.expect("no hang").expect("a value");
        assert_eq!(found.source, Source::Load);
        cache.shutdown().await;
        assert_eq!(cache.store_answers().await, Some(false), "the store that it has made is closed with it");
    }
}

#[tokio::test(start_paused = true)]
async fn with_nothing_configured_there_is_a_cache_in_memory() {
    let cache = Config::builder().variables([("PATH", "/bin")]).build().expect("a cache");
    put(&cache, "k", "v").await;
    assert_eq!((get(&cache, "k").await.as_deref(), cache.store()), (Some("v"), None));
}

#[tokio::test(start_paused = true)]
async fn who_has_more_to_say_than_a_configuration_can_goes_on_with_the_builder() {
    let config = Config::builder().set("lease", "true").set("url", "redis://cache").read().expect("good");
    let builder = config.cache_builder().expect("good").store(MemoryStore::new(10));
    assert_eq!(builder.build().expect("a cache").store(), Some("memory"));
}

#[tokio::test(start_paused = true)]
async fn what_a_call_loads_is_kept_for_the_lifetime_that_it_names() {
    for engine in EngineKind::ALL {
        let cache =
            Cache::builder().engine(*engine).ttl_of(Ttl::Short, Duration::from_secs(5)).build().expect("a cache");
        let briefly = CallOptions::new().ttl(cache.ttl_of(Ttl::Short));
        let load = |_| async { Ok(Loaded::new("v")) };
        let found = cache.get_or_load_with("k", briefly, load).await.expect("a value");
        assert_eq!(found.ttl, Some(Duration::from_secs(5)), "{engine:?}");
        let own = |_| async { Ok(Loaded::new("v").ttl(Duration::from_secs(7))) };
        let found = cache.get_or_load_with("other", briefly, own).await.expect("a value");
        assert_eq!(found.ttl, Some(Duration::from_secs(7)), "its loader knows better");
    }
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let error = Config::builder().url("redis://cache").build().expect_err("no runtime");
    assert!(matches!(error, ConfigError::Cache(Error::NoRuntime)), "{error:?}");
    assert!(error.refusals().is_empty());
}
