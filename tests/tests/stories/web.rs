//! Responses cached by the tower layer: stories on paused time, with the service told what to do.

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tideover::web::{CacheLayer, CacheService, Rule, Tags};
use tideover::{Cache, EngineKind, Error, Fetched, Source, Windows};
use tideover_tests::driving::{ENGINES, exact, millis, seconds};
use tideover_tests::http::{Answer, Body, response};
use tower::{Layer as _, Service, ServiceExt as _};

/// What the service fails with when it does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken(&'static str);

type Script = dyn Fn(&Parts, usize) -> (Duration, Result<Response<Body>, Broken>) + Send + Sync;

/// A service that does as it is told and counts what reaches it.
#[derive(Clone)]
pub(super) struct Shop(Arc<State>);

struct State {
    script: Mutex<Arc<Script>>,
    got: Mutex<Vec<Parts>>,
    saturated: AtomicBool,
}

impl Shop {
    pub(super) fn that(
        script: impl Fn(&Parts, usize) -> (Duration, Result<Response<Body>, Broken>) + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let script = Mutex::new(script);
        Self(Arc::new(State { script, got: Mutex::default(), saturated: AtomicBool::new(false) }))
    }

    /// Always 200 with these headers and the number of the request.
    fn counting(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::that(move |_, number| (Duration::ZERO, Ok(response(200, headers, number.to_string()))))
    }

    fn does(
        &self,
        script: impl Fn(&Parts, usize) -> (Duration, Result<Response<Body>, Broken>) + Send + Sync + 'static,
    ) {
        *self.0.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }

    fn fails(&self, status: u16) {
        self.does(move |_, _| (Duration::ZERO, Ok(response(status, &[], "out of order"))));
    }

    fn got(&self) -> Vec<Parts> {
        self.0.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self) -> usize {
        self.got().len()
    }
}

impl Service<Request<Full<Bytes>>> for Shop {
    type Response = Response<Body>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Response<Body>, Broken>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.0.saturated.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let parts = request.into_parts().0;
        let number = {
            let mut got = self.0.got.lock().unwrap_or_else(PoisonError::into_inner);
            got.push(parts.clone());
            got.len() - 1
        };
        let script = Arc::clone(&self.0.script.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            let (wait, answer) = script(&parts, number);
            tokio::time::sleep(wait).await;
            answer
        })
    }
}

/// A shop behind a layer.
#[derive(Clone)]
pub(super) struct Front(CacheService<Shop>);

impl Front {
    pub(super) fn of(shop: &Shop, cache: &Cache, choose: impl FnOnce(CacheLayer) -> CacheLayer) -> Self {
        Self(choose(CacheLayer::new(cache.clone())).layer(shop.clone()))
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<tideover::web::Body>, Broken> {
        self.0.clone().oneshot(request).await
    }

    pub(super) async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        whole(self.ask(request(method, target, headers)).await.expect("a response")).await
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[]).await
    }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(target);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::default()).expect("a request")
}

async fn whole(response: Response<tideover::web::Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(super) fn cache() -> Cache {
    exact(EngineKind::Native, &[]).build().expect("a cache")
}

pub(super) fn a_minute(layer: CacheLayer) -> CacheLayer {
    layer.ttl(seconds(60))
}

#[tokio::test(start_paused = true)]
async fn five_hundred_requests_at_once_are_one_call() {
    for &engine in ENGINES {
        let shop = Shop::that(|_, number| (millis(300), Ok(response(200, &[], number.to_string()))));
        let front = Front::of(&shop, &exact(engine, &[]).build().expect("a cache"), a_minute);
        let answers = join_all((0..500).map(|_| front.get("/cold"))).await;
        assert!(answers.iter().all(|answer| (answer.status, answer.body.as_str()) == (200, "0")), "{engine:?}");
        assert_eq!(shop.count(), 1, "{engine:?}");
        let collapsed = answers.iter().filter(|answer| answer.cache_status().ends_with("; collapsed")).count();
        assert_eq!(collapsed, 499, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_nobody_with_it() {
    let shop = Shop::that(|_, number| (seconds(2), Ok(response(200, &[], number.to_string()))));
    let front = Front::of(&shop, &cache(), a_minute);
    let leader = tokio::spawn({
        let front = front.clone();
        async move { front.get("/slow").await }
    });
    tokio::time::sleep(seconds(1)).await;
    let follower = tokio::spawn({
        let front = front.clone();
        async move { front.get("/slow").await }
    });
    tokio::time::sleep(millis(10)).await;
    leader.abort();
    assert_eq!(follower.await.expect("an answer").body, "0");
    assert_eq!((front.get("/slow").await.body.as_str(), shop.count()), ("0", 1));
}

#[tokio::test(start_paused = true)]
async fn a_response_is_used_for_as_long_as_it_says() {
    for &engine in ENGINES {
        let shop = Shop::counting(&[("cache-control", "max-age=60, stale-while-revalidate=30, stale-if-error=600")]);
        let front = Front::of(&shop, &exact(engine, &[]).build().expect("a cache"), |layer| layer);
        assert_eq!(front.get("/").await.cache_status(), "tideover; fwd=miss; ttl=60; stored");
        tokio::time::sleep(millis(59_999)).await;
        let fresh = front.get("/").await;
        assert_eq!((fresh.header("age"), fresh.cache_status()), ("59", "tideover; hit; ttl=1; detail=memory"));
        tokio::time::sleep(millis(1)).await;
        let stale = front.get("/").await;
        assert_eq!((stale.body.as_str(), stale.header("age")), ("0", "60"), "{engine:?}");
        assert_eq!(stale.cache_status(), "tideover; hit; ttl=0; detail=stale-while-revalidate");
        tokio::time::sleep(millis(1)).await;
        assert_eq!(front.get("/").await.body, "1", "{engine:?}: refreshed behind it");
        tokio::time::sleep(seconds(90)).await;
        shop.fails(503);
        let rescued = front.get("/").await;
        assert_eq!((rescued.status, rescued.body.as_str()), (200, "1"), "{engine:?}");
        assert_eq!(rescued.cache_status(), "tideover; fwd=stale; fwd-status=503; ttl=-30; detail=stale-if-error");
        tokio::time::sleep(seconds(570)).await;
        assert_eq!(front.get("/").await.status, 503, "{engine:?}: its time is over");
    }
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_is_kept_only_if_the_layer_does() {
    let shop = Shop::counting(&[]);
    let front = Front::of(&shop, &cache(), |layer| layer);
    assert_eq!(front.get("/").await.cache_status(), "tideover; fwd=miss; detail=no-freshness");
    assert_eq!(front.get("/").await.body, "1");
    let windows = Windows { ttl: Some(seconds(5)), stale_if_error: seconds(10), ..Windows::FOREVER };
    let front = Front::of(&shop, &cache(), |layer| layer.windows(windows));
    assert_eq!((front.get("/").await.body, front.get("/").await.body), ("2".into(), "2".into()));
    tokio::time::sleep(seconds(5)).await;
    shop.fails(502);
    assert_eq!(front.get("/").await.body, "2");
}

/// The default circuit opens after five failures in a row.
#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_spared_and_one_broken_page_is_not_the_service() {
    let shop = Shop::counting(&[]);
    let front = Front::of(&shop, &cache(), a_minute);
    shop.fails(500);
    for number in 0..20 {
        let broken = front.get(&format!("/broken?{number}")).await;
        assert_eq!((broken.status, broken.body.as_str()), (500, "out of order"));
    }
    for status in [502, 503, 504, 502, 503] {
        shop.fails(status);
        assert_eq!(front.get("/away").await.status, status);
    }
    let calls = shop.count();
    let spared = front.ask(request("GET", "/another", &[])).await.expect("a response");
    assert!(matches!(spared.extensions().get::<Error>(), Some(Error::Open { .. })));
    let spared = whole(spared).await;
    assert_eq!((spared.status, spared.header("retry-after"), shop.count()), (503, "1", calls));
    assert_eq!(spared.cache_status(), "tideover; fwd=miss; detail=circuit-open");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_never_masked() {
    let shop = Shop::counting(&[("cache-control", "max-age=1, stale-if-error=600")]);
    let front = Front::of(&shop, &cache(), |layer| layer);
    for status in [404, 403, 401, 429, 410] {
        let page = format!("/{status}");
        shop.does(|_, _| {
            (Duration::ZERO, Ok(response(200, &[("cache-control", "max-age=1, stale-if-error=600")], "")))
        });
        front.get(&page).await;
        tokio::time::sleep(seconds(2)).await;
        shop.fails(status);
        let answer = front.get(&page).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, "out of order"));
        assert_eq!(answer.cache_status(), "tideover; fwd=stale; detail=status");
        shop.fails(500);
        assert_eq!(front.get(&page).await.status, 500, "what the answer {status} has retracted does not come back");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_the_service_reaches_who_asked_it() {
    let shop = Shop::that(|_, _| (seconds(1), Err(Broken("no backend"))));
    let front = Front::of(&shop, &cache(), a_minute);
    let answers = join_all((0..3).map(|_| front.ask(request("GET", "/", &[])))).await;
    let (own, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_err);
    assert_eq!(own.into_iter().map(|own| own.expect_err("an error")).collect::<Vec<_>>(), [Broken("no backend")]);
    for other in others.into_iter().flatten() {
        assert_eq!(other.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(other.extensions().get::<Error>().is_some_and(Error::is_unavailable));
    }
    assert_eq!(shop.count(), 1);
    shop.does(|_, _| (Duration::ZERO, Ok(response(200, &[("cache-control", "max-age=1, stale-if-error=60")], "ware"))));
    front.get("/").await;
    tokio::time::sleep(seconds(2)).await;
    shop.does(|_, _| (Duration::ZERO, Err(Broken("no backend"))));
    assert_eq!(front.get("/").await.body, "ware", "stale stands in for an error, too");
}

#[tokio::test(start_paused = true)]
async fn an_error_page_is_shared_unless_it_is_somebodys_own() {
    let own: &[&[(&str, &str)]] =
        &[&[("set-cookie", "user=7")], &[("cache-control", "private")], &[("cache-control", "no-store")]];
    for (headers, shared) in [(&[("retry-after", "9")][..], true)].into_iter().chain(own.iter().map(|it| (*it, false)))
    {
        let headers = headers.to_vec();
        let page: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let shop = Shop::that(move |_, _| {
            let lines: Vec<_> = page.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            (seconds(1), Ok(response(503, &lines, "sorry, Ada")))
        });
        let front = Front::of(&shop, &cache(), a_minute);
        let mut answers = join_all((0..3).map(|_| front.get("/"))).await;
        answers.sort_by_key(|answer| answer.body.len());
        let bodies: Vec<_> = answers.iter().map(|answer| answer.body.as_str()).collect();
        let expected = if shared { "sorry, Ada" } else { "" };
        assert_eq!(bodies, [expected, expected, "sorry, Ada"], "{headers:?}");
        assert!(answers.iter().all(|answer| answer.status == 503));
        assert!(answers.iter().filter(|answer| answer.headers.contains_key("set-cookie")).count() <= 1);
        assert_eq!(shop.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_one_users_is_kept_from_others() {
    let shop = Shop::that(|request, number| {
        let headers: &[_] = match request.uri.path() {
            "/cookie" => &[("cache-control", "public, max-age=60"), ("set-cookie", "user=7")],
            "/private" => &[("cache-control", "private, max-age=60")],
            "/secret" => &[("cache-control", "no-store")],
            "/star" => &[("vary", "*")],
            _ => &[("cache-control", "public")],
        };
        (Duration::ZERO, Ok(response(200, headers, number.to_string())))
    });
    let front = Front::of(&shop, &cache(), |layer| a_minute(layer).credentials([HeaderName::from_static("x-session")]));
    for (target, headers, status) in [
        ("/", &[("authorization", "Bearer x")][..], "tideover; fwd=bypass; detail=credentials"),
        ("/", &[("cookie", "user=7")], "tideover; fwd=bypass; detail=credentials"),
        ("/", &[("x-api-key", "7")], "tideover; fwd=bypass; detail=credentials"),
        ("/", &[("x-session", "7")], "tideover; fwd=bypass; detail=credentials"),
        ("/cookie", &[], "tideover; fwd=miss; detail=set-cookie"),
        ("/private", &[], "tideover; fwd=miss; detail=private"),
        ("/secret", &[], "tideover; fwd=miss; detail=no-store"),
        ("/star", &[], "tideover; fwd=miss; detail=vary-star"),
    ] {
        let (first, second) = (front.send("GET", target, headers).await, front.send("GET", target, headers).await);
        assert_ne!(first.body, second.body, "{target} {headers:?}");
        assert_eq!(first.cache_status(), status, "{target} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_may_keep_responses_apart_or_be_taken_off() {
    let shop = Shop::that(|request, number| {
        let who = request.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
        let cookie = request.headers.contains_key("cookie");
        (millis(10), Ok(response(200, &[], format!("{who} {cookie} {number}"))))
    });
    let cache = cache();
    let front =
        Front::of(&shop, &cache, |layer| a_minute(layer).vary_on([header::AUTHORIZATION]).strip([header::COOKIE]));
    let ada = [("authorization", "ada"), ("cookie", "analytics=1")];
    let (bob, nobody) = ([("authorization", "bob")], [("cookie", "analytics=2")]);
    for _ in 0..2 {
        let together = tokio::join!(
            front.send("GET", "/me", &ada),
            front.send("GET", "/me", &bob),
            front.send("GET", "/me", &nobody)
        );
        let who = |answer: &Answer| answer.body.rsplit_once(' ').map(|(who, _)| who.to_owned()).expect("a name");
        let told = [who(&together.0), who(&together.1), who(&together.2)];
        assert_eq!(told, ["ada false", "bob false", "nobody false"]);
    }
    assert_eq!(shop.count(), 3);
    let snapshot = cache.snapshot().await.expect("a snapshot");
    let keys = String::from_utf8_lossy(&snapshot).into_owned();
    assert!(keys.contains("GET /me") && !keys.contains("authorization=ada"), "keys hold no credentials");
}

#[tokio::test(start_paused = true)]
async fn hosts_are_told_apart_because_links_are_built_from_them() {
    let shop = Shop::counting(&[]);
    let front = Front::of(&shop, &cache(), a_minute);
    let hosts: [&[(&str, &str)]; 7] = [
        &[("host", "shop.example")],
        &[("host", "evil.example")],
        &[("host", "shop.example"), ("x-forwarded-host", "evil.example")],
        &[("host", "shop.example"), ("x-forwarded-proto", "https")],
        &[("host", "shop.example"), ("x-forwarded-host", "https")],
        &[("host", "shop.example"), ("forwarded", "for=1.1.1.1;host=evil.example")],
        &[("host", "shop.example/a")],
    ];
    let mut bodies = HashSet::new();
    for headers in hosts {
        bodies.insert(front.send("GET", "/a/b", headers).await.body);
    }
    bodies.insert(front.send("GET", "/b", hosts[6]).await.body);
    bodies.insert(front.send("GET", "http://shop.example/a/b", hosts[1]).await.body);
    assert_eq!(bodies.len(), 9);
    let both = front.send("GET", "http://shop.example/a/b", hosts[0]).await;
    assert_eq!(both.body, front.send("GET", "/a/b", hosts[0]).await.body, "an absolute target is the same one");
    let front = Front::of(&shop, &cache(), |layer| a_minute(layer).any_host());
    assert_eq!(front.send("GET", "/", hosts[0]).await.body, front.send("GET", "/", hosts[2]).await.body);
}

#[tokio::test(start_paused = true)]
async fn vary_keeps_responses_apart_and_a_change_reaches_them_all() {
    for &engine in ENGINES {
        let shop = Shop::that(|request, number| {
            let language =
                request.headers.get("accept-language").and_then(|value| value.to_str().ok()).unwrap_or("none");
            (millis(100), Ok(response(200, &[("vary", "accept-language")], format!("{language} {number}"))))
        });
        let front = Front::of(&shop, &exact(engine, &[]).build().expect("a cache"), a_minute);
        let (german, french) = ([("accept-language", "de")], [("accept-language", "fr")]);
        let crowd = join_all((0..50).map(|_| front.send("GET", "/a", &german))).await;
        assert!(crowd.iter().all(|answer| answer.body == "de 0"), "{engine:?}: one call, carried over to its variant");
        assert_eq!(front.send("GET", "/a", &french).await.body, "fr 1");
        assert_eq!(front.send("GET", "/a", &german).await.body, "de 0");
        front.send("POST", "/a", &french).await;
        assert_eq!(front.send("GET", "/a", &german).await.body, "de 3", "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_something_newer_parts_nobody_from_his_variant() {
    let shop = Shop::counting(&[("vary", "accept-language")]);
    let front = Front::of(&shop, &cache(), |layer| {
        a_minute(layer).rule(|request| match request.headers.get("x-recent") {
            Some(_) => Rule::new().max_age(seconds(5)),
            None => Rule::new(),
        })
    });
    let (german, french) = ([("accept-language", "de")], [("accept-language", "fr"), ("x-recent", "1")]);
    assert_eq!(front.send("GET", "/", &german).await.body, "0");
    tokio::time::sleep(seconds(6)).await;
    assert_eq!(front.send("GET", "/", &french).await.body, "1");
    assert_eq!(front.send("GET", "/", &german).await.body, "0");
    tokio::time::sleep(seconds(6)).await;
    assert_eq!(front.send("GET", "/", &french).await.body, "2");
    assert_eq!(shop.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_has_it_already_is_told_so_and_refreshes_ask_the_same() {
    let shop = Shop::that(|request, number| {
        let headers = &[("cache-control", "max-age=60"), ("etag", "\"v1\"")];
        let current = request.headers.get("if-none-match").is_some_and(|tag| tag == "\"v1\"");
        let status = if current { 304 } else { 200 };
        (Duration::ZERO, Ok(response(status, headers, if current { String::new() } else { number.to_string() })))
    });
    let front = Front::of(&shop, &cache(), |layer| layer);
    let theirs = [("if-none-match", "W/\"v1\"")];
    let first = front.send("GET", "/", &theirs).await;
    assert_eq!((first.status, first.body.as_str()), (304, ""), "what is loaded is whole, whatever this client has");
    assert_eq!(front.get("/").await.body, "0");
    assert_eq!(front.send("GET", "/", &[("if-none-match", "\"v0\"")]).await.status, 200);
    tokio::time::sleep(seconds(60)).await;
    let renewed = front.get("/").await;
    assert_eq!((renewed.status, renewed.body.as_str(), renewed.header("age")), (200, "0", "0"));
    assert_eq!(renewed.cache_status(), "tideover; fwd=stale; fwd-status=304; ttl=60; stored");
    let head = front.send("HEAD", "/", &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "1", ""));
    assert_eq!(shop.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn large_and_endless_bodies_pass_through_as_they_come() {
    let shop = Shop::that(|request, _| {
        let endless = || {
            let parts = stream::unfold(0, |number| async move {
                if number == 3 { pending().await } else { Some((Ok(Frame::data(Bytes::from("tick "))), number + 1)) }
            });
            StreamBody::new(parts).boxed_unsync()
        };
        let response = match request.uri.path() {
            "/events" => Response::builder().header("content-type", "text/event-stream").body(endless()),
            // Neither says how large it is.
            "/long" => Response::builder().body(endless()),
            _ => return (Duration::ZERO, Ok(response(200, &[], "x".repeat(300_000)))),
        };
        (Duration::ZERO, Ok(response.expect("a response")))
    });
    let front = Front::of(&shop, &cache(), |layer| a_minute(layer).body_bytes_max(10));
    let large = front.get("/large").await;
    assert_eq!((large.body.len(), large.cache_status()), (300_000, "tideover; fwd=miss; detail=too-large"));
    for (target, why) in [("/events", "stream"), ("/long", "too-large")] {
        let response = front.ask(request("GET", target, &[])).await.expect("a response");
        assert_eq!(response.headers()["cache-status"], format!("tideover; fwd=miss; detail={why}"));
        let mut body = response.into_body();
        let mut read = String::new();
        while read.len() < "tick tick tick ".len() {
            let frame = body.frame().await.expect("a part").expect("whole").into_data().expect("data");
            read.push_str(&String::from_utf8_lossy(&frame));
        }
        assert_eq!(read, "tick tick tick ");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_and_lengths_are_not_lost() {
    let shop = Shop::that(|request, _| {
        if request.uri.path() == "/plain" {
            return (Duration::ZERO, Ok(response(200, &[], "12345")));
        }
        let trailers = Frame::trailers(
            [(HeaderName::from_static("grpc-status"), "0".parse().expect("a value"))].into_iter().collect(),
        );
        let frames = [Ok(Frame::data(Bytes::from("data"))), Ok(trailers)];
        (Duration::ZERO, Ok(Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())))
    });
    let front = Front::of(&shop, &cache(), a_minute);
    for _ in 0..2 {
        let response = front.ask(request("GET", "/trailers", &[])).await.expect("a response");
        assert_eq!(response.headers()["cache-status"], "tideover; fwd=miss; detail=trailers");
        let body = response.into_body().collect().await.expect("a body");
        assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "data");
    }
    for method in ["POST", "GET", "GET"] {
        let response = front.ask(request(method, "/plain", &[])).await.expect("a response");
        assert_eq!(response.body().size_hint().exact(), Some(5), "a server needs it for Content-Length");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_is_given_up_and_stale_stands_in() {
    let headers = &[("cache-control", "max-age=1, stale-if-error=600")];
    let shop = Shop::counting(headers);
    let front = Front::of(&shop, &cache(), |layer| {
        layer.rule(|request| match request.uri.path() {
            "/impatient" => Rule::new().timeout(seconds(2)),
            _ => Rule::new(),
        })
    });
    front.get("/").await;
    front.get("/impatient").await;
    tokio::time::sleep(seconds(2)).await;
    shop.does(move |_, _| (seconds(60), Ok(response(200, headers, "too late"))));
    for (target, patience) in [("/impatient", 2), ("/", 10)] {
        let began = tokio::time::Instant::now();
        let stale = front.get(target).await;
        assert_eq!((stale.status, began.elapsed().as_secs()), (200, patience), "{target}");
        assert!(stale.cache_status().ends_with("; detail=stale-if-error"), "{}", stale.cache_status());
    }
    let began = tokio::time::Instant::now();
    let cold = front.get("/cold").await;
    assert_eq!((cold.status, cold.cache_status()), (504, "tideover; fwd=miss; detail=load-failed"));
    assert_eq!(began.elapsed().as_secs(), 10, "load_deadline");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_simple_question_goes_past_the_cache() {
    let shop = Shop::counting(&[]);
    let front = Front::of(&shop, &cache(), |layer| {
        a_minute(layer).key(|request| (request.uri.path() != "/unnamed").then(|| request.uri.path().to_owned()))
    });
    for (method, target, headers, status) in [
        ("OPTIONS", "/", &[][..], "tideover; fwd=method"),
        ("GET", "/", &[("range", "bytes=0-9")], "tideover; fwd=bypass; detail=range"),
        ("GET", "/", &[("connection", "upgrade"), ("upgrade", "websocket")], "tideover; fwd=bypass; detail=upgrade"),
        ("GET", "/", &[("cache-control", "no-store")], "tideover; fwd=request; detail=no-store"),
        ("GET", "/unnamed", &[], "tideover; fwd=bypass; detail=no-key"),
    ] {
        let answer = front.send(method, target, headers).await;
        assert_eq!(answer.cache_status(), status);
    }
    let mut with_body = request("GET", "/search", &[]);
    *with_body.body_mut() = Full::from("query");
    let answer = whole(front.ask(with_body).await.expect("a response")).await;
    assert_eq!(answer.cache_status(), "tideover; fwd=bypass; detail=request-body");
    let calls = shop.count();
    let only = front.send("GET", "/unseen", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((only.status, shop.count()), (504, calls));
    let long = front.get(&format!("/{}", "a".repeat(2_000))).await;
    assert_eq!(long.cache_status(), "tideover; fwd=bypass; detail=key-too-long");
}

#[tokio::test(start_paused = true)]
async fn a_change_invalidates_its_target_and_tags_after_success_only() {
    let shop = Shop::that(|request, number| {
        let status = if request.uri.path() == "/refused" { 409 } else { 200 };
        let mut response = response(status, &[], number.to_string());
        response.extensions_mut().insert(Tags::new([format!("page:{}", request.uri.path())]));
        (Duration::ZERO, Ok(response))
    });
    let front = Front::of(&shop, &cache(), |layer| {
        a_minute(layer).rule(|_| Rule::new().tags(["all"])).invalidate_tags(|request, _| {
            request.headers.get("x-tag").and_then(|tag| tag.to_str().ok()).map(str::to_owned).into_iter().collect()
        })
    });
    let numbers = async || (front.get("/a").await.body, front.get("/b").await.body);
    assert_eq!(numbers().await, ("0".into(), "1".into()));
    front.send("PUT", "/a", &[]).await;
    assert_eq!(numbers().await, ("3".into(), "1".into()), "its own target");
    front.send("POST", "/orders", &[("x-tag", "page:/b")]).await;
    assert_eq!(numbers().await, ("3".into(), "5".into()), "a tag that the service named");
    front.send("POST", "/refused", &[("x-tag", "all")]).await;
    assert_eq!(numbers().await, ("3".into(), "5".into()), "nothing has changed");
    front.send("DELETE", "/orders", &[("x-tag", "all")]).await;
    assert_eq!(numbers().await, ("8".into(), "9".into()), "a tag of the rule");
}

#[tokio::test(start_paused = true)]
async fn a_rule_bypasses_and_overrules() {
    let shop = Shop::counting(&[("cache-control", "no-cache")]);
    let front = Front::of(&shop, &cache(), |layer| {
        layer.statuses([StatusCode::OK, StatusCode::NOT_FOUND]).rule(|request| match request.uri.path() {
            "/live" => Rule::bypass(),
            "/kept" => Rule::new().ttl(seconds(5)).overrule(),
            _ => Rule::new().ttl(seconds(5)),
        })
    });
    assert_eq!(front.get("/live").await.cache_status(), "tideover; fwd=bypass; detail=rule");
    assert_eq!((front.get("/kept").await.body, front.get("/kept").await.body), ("1".into(), "1".into()));
    assert_eq!((front.get("/").await.body, front.get("/").await.body), ("2".into(), "3".into()));
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(front.get("/kept").await.body, "4");
    shop.does(|_, number| (Duration::ZERO, Ok(response(404, &[], number.to_string()))));
    assert_eq!((front.get("/gone").await.body, front.get("/gone").await.body), ("5".into(), "5".into()));
}

#[tokio::test(start_paused = true)]
async fn a_saturated_service_holds_up_no_hit() {
    let shop = Shop::counting(&[]);
    let front = Front::of(&shop, &cache(), a_minute);
    front.get("/").await;
    shop.0.saturated.store(true, Ordering::Relaxed);
    let hit = front.ask(request("GET", "/", &[])).await.expect("a response");
    let how = hit.extensions().get::<Fetched<()>>().expect("how it was found").clone();
    assert_eq!((how.source, how.stale, how.collapsed), (Source::Memory, None, false));
    assert_eq!(front.get("/cold").await.status, 504, "who needs the service waits for it, but not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_500_for_all_who_wait() {
    let shop = Shop::that(|_, _| panic!("as the test wants it"));
    let front = Front::of(&shop, &cache(), a_minute);
    let answers = join_all((0..3).map(|_| front.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 500));
    assert_eq!(shop.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_gone_takes_no_service_with_it() {
    for &engine in ENGINES {
        let shop = Shop::counting(&[]);
        let cache = exact(engine, &[]).build().expect("a cache");
        let front = Front::of(&shop, &cache, a_minute);
        assert_eq!(front.get("/").await.body, "0");
        cache.shutdown().await;
        let without = front.get("/").await;
        assert_eq!((without.status, without.body.as_str()), (200, "1"), "{engine:?}");
        assert_eq!(without.cache_status(), "tideover; fwd=bypass; detail=no-cache-at-hand");
        assert_eq!(front.send("POST", "/", &[]).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_over_one_cache_do_not_wait_for_each_other() {
    let (shop, cache) = (Shop::counting(&[]), cache());
    let twice = CacheLayer::new(cache.clone()).ttl(seconds(60)).layer(Front::of(&shop, &cache, a_minute).0);
    let answer = twice.oneshot(request("GET", "/", &[])).await.expect("a response");
    assert_eq!(whole(answer).await.body, "0");
    let other = Front::of(&shop, &cache, |layer| a_minute(layer).namespace("other:"));
    assert_eq!(other.get("/").await.body, "1");
}

#[tokio::test(start_paused = true)]
async fn where_many_may_not_wait_the_others_are_told_when_to_come_back() {
    let shop = Shop::that(|_, _| (seconds(1), Ok(response(200, &[], "ware"))));
    let cache = exact(EngineKind::Native, &[("waiters_max", "2")]).build().expect("a cache");
    let front = Front::of(&shop, &cache, a_minute);
    let refused = AtomicUsize::new(0);
    join_all((0..10).map(|_| async {
        let answer = front.get("/").await;
        if answer.status == 503 {
            assert_eq!(
                (answer.header("retry-after"), answer.cache_status()),
                ("1", "tideover; fwd=miss; detail=limit")
            );
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }))
    .await;
    assert_eq!((refused.into_inner(), shop.count()), (8, 1));
}
