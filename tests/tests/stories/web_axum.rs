//! axum with a cache: a real server on loopback in bad weather, routes that tell how it is, and a stop that loses nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{FromRef, Path, State};
use axum::http::{Request, StatusCode};
use axum::routing::get;
use axum::{Extension, Router};
use http_body_util::BodyExt as _;
use tideover::testing::{ScriptedStore, Weather};
use tideover::web::axum::{Lifecycle, health_route, routes};
use tideover::web::{CacheLayer, Tags};
use tideover::{Cache, EngineKind, Error, LoadError, Loaded, Windows};
use tideover_tests::driving::{exact, millis, seconds};
use tideover_tests::http::Client;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

/// Catches a hang; nothing here takes a tenth of it.
const HANG: Duration = Duration::from_secs(30);

/// A page that takes its time, and fails when it is told to.
#[derive(Clone, Default)]
struct Page {
    calls: Arc<AtomicUsize>,
    status: Arc<AtomicU16>,
    wait_millis: Arc<AtomicUsize>,
}

impl Page {
    async fn show(self) -> (StatusCode, String) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(millis(self.wait_millis.load(Ordering::Relaxed) as u64)).await;
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK);
        (status, number.to_string())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

struct Server {
    client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(cache: &Cache, page: &Page, lifecycle: Lifecycle) -> Self {
        let windows = Windows { ttl: Some(seconds(1)), stale_if_error: seconds(60), ..Windows::FOREVER };
        let page = page.clone();
        let app = Router::new()
            .route("/{*page}", get(move || page.clone().show()))
            .layer(CacheLayer::new(cache.clone()).windows(windows))
            .merge(lifecycle.routes());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port on loopback");
        let address: SocketAddr = listener.local_addr().expect("its address");
        let (stop, stopped) = oneshot::channel::<()>();
        let running =
            tokio::spawn(lifecycle.serve(async move { drop(stopped.await) }, |stop| {
                axum::serve(listener, app).with_graceful_shutdown(stop)
            }));
        Self { client: Client::of(address), stop, running }
    }

    /// So many clients ask for so many pages at once; what they got.
    async fn crowd(&self, clients: usize, pages: usize) -> Vec<u16> {
        let mut crowd = JoinSet::new();
        for number in 0..clients {
            let client = self.client.clone();
            crowd.spawn(async move { client.get(&format!("/page/{}", number % pages)).await.status });
        }
        in_time(crowd.join_all()).await
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("nothing hangs")
}

/// The store hangs from the beginning, then the service behind the cache slows down, fails, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_and_a_service_that_fails_are_tided_over() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::with(Weather::Hung);
        let builder = Cache::builder().engine(engine).set("refresh_gap", "100ms").expect("an option");
        let cache = builder.set("load_breaker_open_for", "200ms").expect("an option").store(store.clone());
        let cache = cache.build().expect("a cache");
        let page = Page::default();
        page.wait_millis.store(50, Ordering::Relaxed);
        let server = Server::start(&cache, &page, Lifecycle::of(&cache)).await;

        let began = Instant::now();
        let cold = server.crowd(200, 4).await;
        assert!(cold.iter().all(|status| *status == 200), "{engine:?}: {cold:?}");
        assert_eq!(page.calls(), 4, "{engine:?}");
        assert!(began.elapsed() < seconds(5), "{engine:?}: the store held them up for {:?}", began.elapsed());

        page.status.store(503, Ordering::Relaxed);
        tokio::time::sleep(millis(1_100)).await;
        let calls = page.calls();
        let rescued = server.crowd(200, 4).await;
        assert!(rescued.iter().all(|status| *status == 200), "{engine:?}: {rescued:?}");
        assert!(page.calls() - calls <= 8, "{engine:?}: it was asked {} times", page.calls() - calls);
        let health = server.client.get("/health").await;
        assert_eq!(health.status, 200, "{engine:?}: an outage of the store takes nobody out of service");
        assert!(health.body.contains("\"status\": \"degraded\""), "{}", health.body);

        page.status.store(200, Ordering::Relaxed);
        store.set(Weather::Fair);
        in_time(async {
            while server.client.get("/page/0").await.header("age") != "0" {
                tokio::time::sleep(millis(50)).await;
            }
        })
        .await;
        server.stop.send(()).expect("it runs");
        in_time(server.running).await.expect("no panic").expect("no error");
        assert!(matches!(cache.get("k").await, Err(Error::Closed)), "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_announced_lets_requests_end_and_shuts_the_cache_down() {
    let cache = Cache::builder().build().expect("a cache");
    let page = Page::default();
    page.wait_millis.store(800, Ordering::Relaxed);
    let server = Server::start(&cache, &page, Lifecycle::of(&cache).announce_for(millis(400))).await;
    assert_eq!(server.client.get("/health").await.status, 200);
    let slow = tokio::spawn({
        let client = server.client.clone();
        async move { client.get("/slow").await }
    });
    while page.calls() == 0 {
        tokio::time::sleep(millis(5)).await;
    }
    server.stop.send(()).expect("it runs");
    let announced = async {
        while server.client.get("/health").await.status == 200 {
            tokio::time::sleep(millis(5)).await;
        }
        server.client.get("/health").await
    };
    let announced = in_time(announced).await;
    assert!(announced.body.contains("\"status\": \"stopping\""), "{}", announced.body);
    assert_eq!(server.client.get("/health/live").await.status, 200, "it lives");
    in_time(server.running).await.expect("no panic").expect("no error");
    assert_eq!(slow.await.expect("an answer").body, "0");
    assert!(matches!(cache.get("k").await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_drain_is_left_behind() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    let lifecycle = Lifecycle::of(&cache).drain_max(seconds(3));
    let began = tokio::time::Instant::now();
    let hung = std::future::pending::<std::io::Result<()>>();
    lifecycle.serve(tokio::time::sleep(seconds(1)), |_stop| hung).await.expect("a warning, no error");
    assert_eq!(began.elapsed().as_secs(), 4);
    assert!(matches!(cache.get("k").await, Err(Error::Closed)));
    let failed =
        Lifecycle::of(&cache).serve(std::future::pending(), |_stop| async { Err(std::io::Error::other("no port")) });
    assert_eq!(failed.await.expect_err("that of the server").to_string(), "no port");
}

async fn ask(app: &Router, target: &str) -> (StatusCode, String) {
    let request = Request::get(target).body(Body::empty()).expect("a request");
    let Ok(response) = app.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(start_paused = true)]
async fn health_is_strict_only_where_that_is_wanted() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    let app = Router::new().merge(routes(&cache)).route("/strict", Lifecycle::of(&cache).strict().health_route());
    let app: Router = app.route("/own", health_route(&cache));
    assert_eq!(ask(&app, "/strict").await.0, StatusCode::OK);
    let load = |_| async { Err(LoadError::unavailable("as the test wants it")) };
    for number in 0..5 {
        let failed = cache.get_or_load(&format!("k{number}"), load).await;
        assert!(failed.is_err());
    }
    for target in ["/health", "/own"] {
        let (status, told) = ask(&app, target).await;
        assert_eq!(status, StatusCode::OK);
        assert!(told.contains("\"status\": \"degraded\"") && told.contains("\"state\": \"open\""), "{told}");
    }
    assert_eq!(ask(&app, "/strict").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (_, metrics) = ask(&app, "/metrics").await;
    let reading = |name: &str, circuit: &str| {
        let mut series = metrics.lines().filter(|line| line.starts_with(name) && line.contains(circuit));
        series.next()?.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    assert_eq!(reading("tideover_circuit_state{", "\"loader\""), Some(1.0), "{metrics}");
    let next_probe = |circuit: &str| reading("tideover_circuit_next_probe_in_seconds{", &format!("\"{circuit}\""));
    assert!(next_probe("loader").is_some_and(|wait| wait > 0.0 && wait <= 1.2), "{metrics}");
    assert_eq!(next_probe("store"), Some(0.0), "{metrics}");
    assert_eq!(ask(&app, "/health/live").await.1, "alive\n");
}

/// Both nests show their routes the target without their prefix.
#[tokio::test(start_paused = true)]
async fn nested_routers_do_not_get_each_others_pages() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    let version = |text: &'static str| {
        Router::new()
            .route("/users", get(move || async move { text }))
            .layer(CacheLayer::new(cache.clone()).ttl(seconds(60)))
    };
    let app = Router::new().nest("/v1", version("one")).nest("/v2", version("two"));
    for _ in 0..2 {
        assert_eq!(ask(&app, "/v1/users").await.1, "one");
        assert_eq!(ask(&app, "/v2/users").await.1, "two");
    }
}

#[derive(Clone)]
struct App {
    cache: Cache,
}

impl FromRef<App> for Cache {
    fn from_ref(app: &App) -> Self {
        app.cache.clone()
    }
}

async fn user(State(cache): State<Cache>, Path(id): Path<u64>) -> Result<Vec<u8>, Error> {
    let load = move |_| async move {
        match id {
            7 => Ok(Loaded::new("Ada")),
            8 => Ok(Loaded::absent()),
            9 => Err(LoadError::timed_out("too slow").retry_after(seconds(3))),
            10 => Err(LoadError::answer("of the data: secret")),
            _ => Err(LoadError::unavailable("away").retry_after(seconds(3))),
        }
    };
    Ok(cache.get_or_load(&format!("user:{id}"), load).await?.value.to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_state_and_its_errors_are_responses() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    let app = Router::new().route("/users/{id}", get(user)).with_state(App { cache: cache.clone() });
    for (id, status) in [(7, 200), (8, 404), (9, 504), (10, 500), (11, 503)] {
        let (got, body) = ask(&app, &format!("/users/{id}")).await;
        assert_eq!(got.as_u16(), status, "{id}");
        assert!(!body.contains("secret"), "{body}");
    }
    assert_eq!(ask(&app, "/users/7").await.1, "Ada");
}

#[tokio::test(start_paused = true)]
async fn a_handler_names_the_tags_of_its_page() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&calls);
    let page = move || async move {
        let number = counting.fetch_add(1, Ordering::Relaxed);
        (Extension(Tags::new(["user:7"])), number.to_string())
    };
    let app = Router::new().route("/", get(page)).layer(CacheLayer::new(cache.clone()).ttl(seconds(60)));
    assert_eq!((ask(&app, "/").await.1, ask(&app, "/").await.1), ("0".into(), "0".into()));
    cache.invalidate_tag("user:7").await.expect("settled");
    assert_eq!(ask(&app, "/").await.1, "1");
}
