//! The side of the clients: listeners, connections, and a stop that lets requests end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::answer::answer;
use super::origin::OriginUrl;
use super::{Gateway, GatewayConfig};
use crate::cache::Cache;

/// Bytes of a request's head that are read before it is complete; past it the answer is 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// After a failed accept (out of file descriptors, usually) the listener waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long origin and store may take to show that they are there when the gateway starts.
const START_PROBE_MAX: Duration = Duration::from_secs(1);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ServeError {
    address: SocketAddr,
    reason: io::Error,
}

/// A gateway that answers requests.
#[derive(Debug)]
pub struct Listening {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it answers `/-/health` and `/-/metrics`, if anywhere.
    pub admin_address: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Returns when the gateway has stopped and its cache is shut down.
    pub async fn stopped(self) {
        // The task ends by itself; were it to panic, the gateway has stopped all the same.
        let _ended = self.task.await;
    }
}

/// Starts a gateway before `origin`, until `stop` is ready. Then it accepts no more connections, lets requests end, and
/// shuts the cache down.
///
/// The administrative paths are answered on `listen` if that is a loopback address, and on `admin_listen` if given.
/// That the origin or the store is away is a warning.
///
/// # Errors
///
/// [`ServeError`] when an address cannot be listened on.
pub async fn serve(
    cache: Cache,
    origin: OriginUrl,
    config: GatewayConfig,
    listen: SocketAddr,
    admin_listen: Option<SocketAddr>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Listening, ServeError> {
    let main = bind(listen).await?;
    let admin = match admin_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = local(&main, listen);
    let admin_on_main = listen.ip().is_loopback();
    let admin_address = match &admin {
        Some(admin) => Some(local(admin, listen)),
        None => admin_on_main.then_some(address),
    };
    warn_of_absent(&cache, &origin).await;
    let drain_max = config.drain_max;
    let gateway = Gateway::new(cache, &origin, config);
    let task = tokio::spawn(async move {
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = accept(&gateway, &main, admin_on_main, &graceful) => {}
            () = accept_admin(&gateway, admin.as_ref(), &graceful) => {}
            () = stop => {}
        }
        drop((main, admin));
        info!("stopping");
        if tokio::time::timeout(drain_max, graceful.shutdown()).await.is_err() {
            warn!("requests were cut short after {drain_max:?}");
        }
        gateway.cache().shutdown().await;
    });
    Ok(Listening { address, admin_address, task })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|reason| ServeError { address, reason })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

async fn warn_of_absent(cache: &Cache, origin: &OriginUrl) {
    let (origin_there, store_there) = tokio::join!(origin.is_reachable(START_PROBE_MAX), cache.store_answers());
    if !origin_there {
        warn!(%origin, "the origin cannot be reached");
    }
    if store_there == Some(false) {
        warn!("the store does not answer");
    }
}

async fn accept_admin(gateway: &Arc<Gateway>, listener: Option<&TcpListener>, graceful: &GracefulShutdown) {
    match listener {
        Some(listener) => accept(gateway, listener, true, graceful).await,
        None => std::future::pending().await,
    }
}

/// Accepts connections for ever, at most so many at once.
async fn accept(gateway: &Arc<Gateway>, listener: &TcpListener, admin: bool, graceful: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(gateway.config.connections_max));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(gateway, stream, peer, admin));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
}

fn connection(
    gateway: &Arc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    admin: bool,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + 'static {
    // Without it small responses wait for the client's acknowledgement. A socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let gateway = Arc::clone(gateway);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(gateway.config.client_pause_max)
        .max_headers(gateway.config.headers_max)
        .max_buf_size(HEAD_BYTES_MAX);
    let service = service_fn(move |request| answer(Arc::clone(&gateway), request, peer.ip(), admin));
    http.serve_connection(TokioIo::new(stream), service)
}
