//! An origin with moods.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How the origin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Answers within a few milliseconds.
    Fine,
    /// Answers after so long.
    Slow(Duration),
    /// Cuts every connection.
    Down,
}

/// What each response says of its freshness: soon stale, usable for long.
const CACHE_CONTROL: &str = "max-age=1, stale-while-revalidate=10, stale-if-error=60";

/// A server on loopback.
pub(super) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    moods: watch::Sender<Mood>,
}

struct State {
    mood: Mutex<Mood>,
    loads: AtomicU64,
}

impl State {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { mood: Mutex::new(Mood::Fine), loads: AtomicU64::new(0) });
        let (moods, mood) = watch::channel(Mood::Fine);
        tokio::spawn(accept(listener, Arc::clone(&state), mood));
        Ok(Self { address, state, moods })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        self.moods.send_replace(mood);
    }

    /// Requests that arrived.
    pub(super) fn loads(&self) -> u64 {
        self.state.loads.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mood: watch::Receiver<Mood>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, mut mood) = (Arc::clone(&state), mood.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            tokio::select! {
                // A caller that goes away is no matter for the origin.
                _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
                _down = mood.wait_for(|mood| *mood == Mood::Down) => {}
            }
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let load = state.loads.fetch_add(1, Ordering::Relaxed);
    match state.mood() {
        Mood::Slow(wait) => tokio::time::sleep(wait).await,
        Mood::Fine | Mood::Down => tokio::time::sleep(Duration::from_millis(5)).await,
    }
    let page = format!("{} as of load {load}\n", request.uri().path());
    let mut response = Response::new(Full::from(page));
    let headers = response.headers_mut();
    headers.insert("cache-control", hyper::header::HeaderValue::from_static(CACHE_CONTROL));
    Ok(response)
}
