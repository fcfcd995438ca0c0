//! HTTP for tests: an origin that does as it is told and counts what reaches it, and a client that shows everything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

/// A body of the scripted origin.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request as the origin got it.
#[derive(Debug, Clone)]
pub struct Got {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
}

type Script = Arc<dyn Fn(&Got, usize) -> (Duration, Response<Body>) + Send + Sync>;

/// An origin on loopback. Dropping it cuts its connections.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

struct State {
    script: Mutex<Script>,
    got: Mutex<Vec<Got>>,
    dead: AtomicBool,
}

impl Origin {
    /// Starts an origin. The script is told the request and how many came before it, and says how long to wait and what
    /// to answer.
    pub async fn start(script: impl Fn(&Got, usize) -> (Duration, Response<Body>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            script: Mutex::new(Arc::new(script)),
            got: Mutex::default(),
            dead: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self { address, state, accepting }
    }

    /// An origin that always answers 200 with these headers and the number of the request as body.
    pub async fn counting(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::start(move |_, number| (Duration::ZERO, response(200, headers, number.to_string()))).await
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it does this.
    pub fn does(&self, script: impl Fn(&Got, usize) -> (Duration, Response<Body>) + Send + Sync + 'static) {
        *lock(&self.state.script) = Arc::new(script);
    }

    /// What it got so far.
    #[must_use]
    pub fn got(&self) -> Vec<Got> {
        lock(&self.state.got).clone()
    }

    /// How many requests it got so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.state.got).len()
    }

    /// Cuts every connection and listens no more.
    pub fn kill(&self) {
        // What is aborted may run on for a moment: it answers nobody any more.
        self.state.dead.store(true, Ordering::SeqCst);
        self.accepting.abort();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if state.dead.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let got =
        Got { method: request.method().clone(), target: request.uri().to_string(), headers: request.headers().clone() };
    let number = {
        let mut all = lock(&state.got);
        all.push(got.clone());
        all.len() - 1
    };
    let script = Arc::clone(&lock(&state.script));
    let (wait, response) = script(&got, number);
    tokio::time::sleep(wait).await;
    Ok(response)
}

/// A response of the scripted origin.
///
/// # Panics
///
/// When a header or the status is none.
pub fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into()).boxed_unsync()).expect("a response")
}

/// A response as the client got it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The header of that name, empty if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What `Cache-Status` says.
    #[must_use]
    pub fn cache_status(&self) -> &str {
        self.header("cache-status")
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    server: SocketAddr,
    client: HyperClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at that address.
    #[must_use]
    pub fn of(server: SocketAddr) -> Self {
        Self { server, client: HyperClient::builder(TokioExecutor::new()).build_http() }
    }

    /// GET without further headers.
    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[]).await
    }

    /// A request with these headers and no body.
    ///
    /// # Panics
    ///
    /// When there is no response.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{target}", self.server));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("a request");
        let response = self.client.request(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}
