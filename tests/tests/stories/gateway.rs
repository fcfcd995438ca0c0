//! The gateway over real HTTP: a scripted origin behind it, a client before it, every engine inside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tideover::gateway::{GatewayConfig, Listening, OriginUrl, serve};
use tideover::{Builder, Cache, EngineKind};
use tideover_tests::http::{Answer, Client, Origin, response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Catches a hang; nothing here takes a tenth of it.
const HANG: Duration = Duration::from_secs(20);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Gateway {
    client: Client,
    address: SocketAddr,
    listening: Listening,
    stop: oneshot::Sender<()>,
}

impl Gateway {
    async fn before(origin: &Origin, engine: EngineKind) -> Self {
        Self::with(origin, engine, GatewayConfig::default(), |builder| builder).await
    }

    async fn with(
        origin: &Origin,
        engine: EngineKind,
        config: GatewayConfig,
        choose: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let builder = Cache::builder().engine(engine).set("key_bytes_max", "9216").expect("an option");
        let cache = choose(builder).build().expect("a cache");
        let url: OriginUrl = origin.url().parse().expect("an origin");
        let (stop, stopped) = oneshot::channel::<()>();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stopped = async move { drop(stopped.await) };
        let listening = serve(cache, url, config, listen, None, stopped).await.expect("a gateway");
        Self { client: Client::of(listening.address), address: listening.address, listening, stop }
    }

    async fn get(&self, target: &str) -> Answer {
        self.client.get(target).await
    }

    /// So many clients ask for one target at once.
    async fn crowd(&self, clients: usize, target: &'static str) -> Vec<Answer> {
        let mut crowd = JoinSet::new();
        for _ in 0..clients {
            let client = self.client.clone();
            crowd.spawn(async move { client.get(target).await });
        }
        tokio::time::timeout(HANG, crowd.join_all()).await.expect("no convoy")
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(HANG, self.listening.stopped()).await.expect("an end");
    }
}

fn config(change: impl FnOnce(&mut GatewayConfig)) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    change(&mut config);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origins_own_freshness_rules() {
    for &engine in EngineKind::ALL {
        let origin = Origin::counting(&[("cache-control", "max-age=60"), ("age", "7")]).await;
        let gateway = Gateway::before(&origin, engine).await;
        let first = gateway.get("/a").await;
        assert_eq!((first.status, first.body.as_str()), (200, "0"));
        assert_eq!(first.cache_status(), "tideover; fwd=miss; ttl=53; stored");
        let second = gateway.get("/a").await;
        assert_eq!((second.body.as_str(), second.header("age")), ("0", "7"));
        assert_eq!(second.cache_status(), "tideover; hit; ttl=53; detail=memory");
        assert_eq!(gateway.get("/a?other").await.body, "1", "the query is part of the target");
        assert_eq!(origin.count(), 2);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_speak_only_for_responses_without_freshness_of_their_own() {
    let origin = Origin::start(|got, number| {
        let headers: &[_] = if got.target == "/own" { &[("cache-control", "max-age=0")] } else { &[] };
        (Duration::ZERO, response(200, headers, number.to_string()))
    })
    .await;
    let without = Gateway::before(&origin, EngineKind::Native).await;
    without.get("/none").await;
    let again = without.get("/none").await;
    assert_eq!((again.body.as_str(), again.cache_status()), ("1", "tideover; fwd=miss; detail=no-freshness"));
    let config = config(|config| config.ttl = Some(Duration::from_secs(60)));
    let with = Gateway::with(&origin, EngineKind::Native, config, |builder| builder).await;
    assert_eq!(with.get("/none").await.body, "2");
    assert_eq!(with.get("/none").await.cache_status(), "tideover; hit; ttl=60; detail=memory");
    assert_eq!((with.get("/own").await.body.as_str(), with.get("/own").await.body.as_str()), ("3", "4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_and_one_slow_cold_page_are_one_load() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|_, number| {
            (millis(300), response(200, &[("cache-control", "max-age=60")], number.to_string()))
        })
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        let answers = gateway.crowd(500, "/cold").await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "0"), "{engine:?}");
        assert_eq!(origin.count(), 1, "{engine:?}");
        assert!(answers.iter().any(|answer| answer.cache_status().contains("; collapsed")), "{engine:?}");
    }
}

/// The body of what may not be shared takes 400 ms, and the origin takes as many at once as there are. A convoy of
/// 50 clients would take 20 s.
#[tokio::test(flavor = "multi_thread")]
async fn an_uncacheable_page_makes_no_convoy() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|_, number| {
            (millis(400), response(200, &[("cache-control", "no-store")], number.to_string()))
        })
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        let began = Instant::now();
        let answers = gateway.crowd(50, "/mine").await;
        assert!(began.elapsed() < Duration::from_secs(8), "{engine:?}: a convoy of {:?}", began.elapsed());
        let mut bodies: Vec<_> = answers.into_iter().map(|answer| answer.body).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 50, "{engine:?}: every client has a response of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_origin_replaces_nothing_good() {
    for &engine in EngineKind::ALL {
        let fresh = &[("cache-control", "max-age=1, stale-if-error=60")];
        let origin = Origin::counting(fresh).await;
        let gateway = Gateway::before(&origin, engine).await;
        assert_eq!(gateway.get("/a").await.body, "0");
        tokio::time::sleep(millis(1_100)).await;
        origin.does(|_, _| (Duration::ZERO, response(503, &[("retry-after", "9")], "out of order")));
        for _ in 0..3 {
            let stale = gateway.get("/a").await;
            assert_eq!((stale.status, stale.body.as_str()), (200, "0"), "{engine:?}");
            assert!(stale.cache_status().contains("fwd=stale"), "{}", stale.cache_status());
            assert!(stale.cache_status().contains("detail=stale-if-error"), "{}", stale.cache_status());
        }
        assert_eq!(origin.count(), 2, "{engine:?}: after a failed refresh the origin has a pause");
        let cold = gateway.get("/b").await;
        assert_eq!((cold.status, cold.body.as_str(), cold.header("retry-after")), (503, "out of order", "9"));
        origin.kill();
        assert_eq!(gateway.get("/a").await.body, "0", "{engine:?}: nor does one that is gone");
    }
}

/// The default circuit opens after five failures in a row.
#[tokio::test(flavor = "multi_thread")]
async fn one_broken_page_closes_no_other_off() {
    let origin = Origin::start(|got, _| {
        let status = if got.target.starts_with("/broken") { 500 } else { 200 };
        (Duration::ZERO, response(status, &[("cache-control", "max-age=60")], "page"))
    })
    .await;
    let gateway = Gateway::before(&origin, EngineKind::Native).await;
    for number in 0..20 {
        let broken = gateway.get(&format!("/broken?{number}")).await;
        assert_eq!((broken.status, broken.body.as_str()), (500, "page"));
    }
    assert_eq!(gateway.get("/sound").await.status, 200);
    origin.does(|_, _| (Duration::ZERO, response(503, &[], "out of order")));
    for number in 0..5 {
        assert_eq!(gateway.get(&format!("/away?{number}")).await.body, "out of order");
    }
    let refused = gateway.get("/another").await;
    assert_eq!(refused.status, 503);
    assert!(refused.cache_status().contains("circuit-open"), "{}", refused.cache_status());
}

#[tokio::test(flavor = "multi_thread")]
async fn must_revalidate_is_never_served_stale() {
    for &engine in EngineKind::ALL {
        let origin = Origin::counting(&[(
            "cache-control",
            "max-age=1, must-revalidate, stale-if-error=60, stale-while-revalidate=60",
        )])
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        gateway.get("/a").await;
        tokio::time::sleep(millis(1_100)).await;
        origin.kill();
        assert_eq!(gateway.get("/a").await.status, 502, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_serves_at_once_and_refreshes_once() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|_, number| {
            let headers = &[("cache-control", "max-age=1, stale-while-revalidate=60")];
            let wait = if number == 0 { Duration::ZERO } else { millis(500) };
            (wait, response(200, headers, number.to_string()))
        })
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        gateway.get("/a").await;
        tokio::time::sleep(millis(1_100)).await;
        for stale in gateway.crowd(20, "/a").await {
            assert_eq!(stale.body, "0", "{engine:?}");
            assert!(stale.cache_status().starts_with("tideover; hit; ttl="), "{}", stale.cache_status());
        }
        tokio::time::sleep(millis(700)).await;
        assert_eq!(gateway.get("/a").await.body, "1", "{engine:?}");
        assert_eq!(origin.count(), 2, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_validator_makes_the_refresh_conditional() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|got, number| {
            let headers = &[("cache-control", "max-age=1"), ("etag", "\"v1\"")];
            let current = got.headers.get("if-none-match").is_some_and(|tag| tag == "\"v1\"");
            let status = if current { 304 } else { 200 };
            (Duration::ZERO, response(status, headers, if current { String::new() } else { number.to_string() }))
        })
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        gateway.get("/a").await;
        tokio::time::sleep(millis(1_100)).await;
        let renewed = gateway.get("/a").await;
        assert_eq!((renewed.status, renewed.body.as_str(), renewed.header("age")), (200, "0", "0"), "{engine:?}");
        assert_eq!(renewed.cache_status(), "tideover; fwd=stale; fwd-status=304; ttl=1; stored", "{engine:?}");
        let mine = gateway.client.send("GET", "/a", &[("if-none-match", "W/\"v1\"")]).await;
        assert_eq!((mine.status, mine.body.as_str()), (304, ""), "{engine:?}: the client has it already");
        assert_eq!(origin.count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vary_joins_the_key() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|got, number| {
            let headers = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
            let language = got.headers.get("accept-language").and_then(|value| value.to_str().ok()).unwrap_or("none");
            (millis(100), response(200, headers, format!("{language} {number}")))
        })
        .await;
        let gateway = Gateway::before(&origin, engine).await;
        let answers = gateway.crowd(50, "/a").await;
        assert!(answers.iter().all(|answer| answer.body == "none 0"), "{engine:?}: one load, its answer carried over");
        let (german, french) = ([("accept-language", "de")], [("accept-language", "fr")]);
        assert_eq!(gateway.client.send("GET", "/a", &german).await.body, "de 1");
        assert_eq!(gateway.client.send("GET", "/a", &german).await.body, "de 1");
        assert_eq!(gateway.client.send("GET", "/a", &french).await.body, "fr 2");
        gateway.client.send("POST", "/a", &[]).await;
        let after = gateway.client.send("GET", "/a", &german).await;
        assert_eq!(after.body, "de 4", "{engine:?}: a change of the target reaches every variant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_users_is_kept_from_others() {
    let origin = Origin::start(|got, number| {
        let public = got.target.contains("public");
        let cookie = got.target.contains("cookie");
        let mut headers = vec![("cache-control", if public { "public, max-age=60" } else { "max-age=60" })];
        if cookie {
            headers.push(("set-cookie", "user=7"));
        }
        if got.target.contains("star") {
            headers.push(("vary", "*"));
        }
        (Duration::ZERO, response(200, &headers, number.to_string()))
    })
    .await;
    let gateway = Gateway::before(&origin, EngineKind::Native).await;
    let signed = [("authorization", "Bearer x")];
    for (target, headers, kept) in [
        ("/signed", &signed[..], false),
        ("/signed-public", &signed[..], true),
        ("/cookie", &[], false),
        ("/cookie-public", &[], true),
        ("/star-public", &[], false),
    ] {
        let first = gateway.client.send("GET", target, headers).await;
        let second = gateway.client.send("GET", target, headers).await;
        assert_eq!(first.body == second.body, kept, "{target}");
    }
}

/// Both wait for one load, whose page is about whom it was made for.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_for_one_user_is_shown_to_no_other() {
    let origin = Origin::start(|got, _| {
        let who = got.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
        let mut headers = vec![("retry-after", "9"), ("x-page", who)];
        if got.target.contains("public") {
            headers.push(("cache-control", "public"));
        }
        (millis(300), response(503, &headers, format!("sorry, {who}")))
    })
    .await;
    let gateway = Gateway::before(&origin, EngineKind::Native).await;
    for (target, shared) in [("/signed", false), ("/signed-public", true)] {
        let asked = origin.count();
        let (ada, bob) = ([("authorization", "ada")], [("authorization", "bob")]);
        let (first, second) = tokio::join!(gateway.client.send("GET", target, &ada), async {
            tokio::time::sleep(millis(100)).await;
            gateway.client.send("GET", target, &bob).await
        },);
        assert_eq!(origin.count(), asked + 1, "{target}: they wait for the same");
        assert_eq!((first.status, first.body.as_str(), first.header("x-page")), (503, "sorry, ada", "ada"), "{target}");
        let expected = if shared { ("sorry, ada", "ada") } else { ("", "") };
        assert_eq!((second.status, (second.body.as_str(), second.header("x-page"))), (503, expected), "{target}");
        assert_eq!(second.header("retry-after"), "9", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_ranges_and_no_store_requests_pass_through_whole() {
    let large = "x".repeat(300_000);
    let body = large.clone();
    let origin =
        Origin::start(move |_, _| (Duration::ZERO, response(200, &[("cache-control", "max-age=60")], body.clone())))
            .await;
    let config = config(|config| config.body_bytes_max = 100_000);
    let gateway = Gateway::with(&origin, EngineKind::Native, config, |builder| builder).await;
    let answer = gateway.get("/large").await;
    assert_eq!((answer.body.len(), answer.cache_status()), (300_000, "tideover; fwd=miss; detail=too-large"));
    let range = gateway.client.send("GET", "/part", &[("range", "bytes=0-9")]).await;
    assert_eq!(range.cache_status(), "tideover; fwd=bypass; detail=range");
    assert_eq!(origin.got()[1].headers.get("range").map(|range| range.as_bytes()), Some(&b"bytes=0-9"[..]));
    let fresh = gateway.client.send("GET", "/part", &[("cache-control", "no-store")]).await;
    assert_eq!(fresh.cache_status(), "tideover; fwd=request; detail=no-store");
    let only = gateway.client.send("GET", "/unseen", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((only.status, origin.count()), (504, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_pass_and_the_unsafe_ones_invalidate() {
    let origin = Origin::counting(&[("cache-control", "max-age=60")]).await;
    let gateway = Gateway::before(&origin, EngineKind::Native).await;
    assert_eq!(gateway.get("/a").await.body, "0");
    let head = gateway.client.send("HEAD", "/a", &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "1", ""));
    assert_eq!(origin.count(), 1, "a stored GET answers a HEAD");
    gateway.client.send("OPTIONS", "/a", &[]).await;
    assert_eq!(gateway.get("/a").await.body, "0", "a safe method changes nothing");
    let put = gateway.client.send("PUT", "/a", &[("connection", "x-mine"), ("x-mine", "1"), ("te", "trailers")]).await;
    assert_eq!(put.cache_status(), "tideover; fwd=method");
    let got = origin.got().pop().expect("the PUT");
    assert!(!got.headers.contains_key("x-mine") && !got.headers.contains_key("te"), "{:?}", got.headers);
    assert_eq!(gateway.get("/a").await.body, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_too_slow_is_refused() {
    let origin = Origin::counting(&[]).await;
    let config = config(|config| config.client_pause_max = millis(300));
    let gateway = Gateway::with(&origin, EngineKind::Native, config, |builder| builder).await;
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(9_000))).await.status, 414);
    let many: Vec<_> = (0..120).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(gateway.client.send("GET", "/", &many).await.status, 431);
    // A client that never ends its headers is cut off.
    let mut slow = TcpStream::connect(gateway.address).await.expect("a connection");
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow").await.expect("a part");
    let mut rest = Vec::new();
    tokio::time::timeout(HANG, slow.read_to_end(&mut rest)).await.expect("an end").expect("a clean end");
    assert_eq!(origin.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_how_it_is() {
    for &engine in EngineKind::ALL {
        let origin = Origin::counting(&[("cache-control", "max-age=60")]).await;
        let gateway = Gateway::before(&origin, engine).await;
        gateway.get("/a").await;
        gateway.get("/a").await;
        let health: serde_json::Value = serde_json::from_str(&gateway.get("/-/health").await.body).expect("JSON");
        assert_eq!(health["status"], "ok", "{health}");
        assert_eq!(health["memory"]["entries"], 1, "{health}");
        let metrics = gateway.get("/-/metrics").await.body;
        let has = |name: &str, label: &str, value| {
            let series = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{cache=")));
            series.filter(|line| line.contains(label)).any(|line| line.ends_with(&format!("}} {value}")))
        };
        assert!(has("tideover_cache_hits_total", "", 1), "{metrics}");
        assert!(has("tideover_circuit_state", ",circuit=\"loader\"}", 0), "{metrics}");
        origin.kill();
        // Its task is dropped a moment later.
        while TcpStream::connect(origin.address).await.is_ok() {
            tokio::time::sleep(millis(1)).await;
        }
        let health: serde_json::Value = serde_json::from_str(&gateway.get("/-/health").await.body).expect("JSON");
        assert_eq!((&health["status"], &health["origin"]["reachable"]), (&"degraded".into(), &false.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administrative_paths_belong_to_the_origin_on_an_open_listener() {
    let origin = Origin::counting(&[]).await;
    let cache = Cache::builder().build().expect("a cache");
    let url: OriginUrl = origin.url().parse().expect("an origin");
    let (everywhere, loopback) = (SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([127, 0, 0, 1], 0)));
    let never = std::future::pending();
    let gateway = serve(cache, url, GatewayConfig::default(), everywhere, Some(loopback), never).await;
    let gateway = gateway.expect("a gateway");
    let open = SocketAddr::from(([127, 0, 0, 1], gateway.address.port()));
    assert_eq!(Client::of(open).get("/-/health").await.body, "0", "the origin answered");
    let admin = Client::of(gateway.admin_address.expect("an address"));
    assert!(admin.get("/-/health").await.body.contains("\"status\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_end() {
    for &engine in EngineKind::ALL {
        let origin = Origin::start(|_, _| (millis(600), response(200, &[], "at last"))).await;
        let gateway = Gateway::before(&origin, engine).await;
        let client = gateway.client.clone();
        let request = tokio::spawn(async move { client.get("/slow").await });
        while origin.count() == 0 {
            tokio::time::sleep(millis(5)).await;
        }
        gateway.stop().await;
        assert_eq!(request.await.expect("an answer").body, "at last", "{engine:?}");
    }
}
