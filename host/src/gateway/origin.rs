//! The side of the origin: one HTTP client with a pool of connections, and limits on all that it waits for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpStream;

use super::GatewayConfig;
use super::body::paced;
use crate::loader::LoadError;
use crate::responses::body::Body;

/// Where the origin is: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginUrl(Authority);

/// Text that is not the URL of an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginUrlError {
    /// No URL at all.
    #[error("is no URL; expected http://HOST:PORT")]
    NotAUrl,
    /// Another scheme.
    #[error("has the scheme {0}; only http is supported")]
    Scheme(String),
    /// A path, a query or a user.
    #[error("has more than host and port; expected http://HOST:PORT")]
    MoreThanHost,
}

impl FromStr for OriginUrl {
    type Err = OriginUrlError;

    fn from_str(text: &str) -> Result<Self, OriginUrlError> {
        let uri: Uri = text.parse().map_err(|_| OriginUrlError::NotAUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(OriginUrlError::NotAUrl);
        };
        if scheme != "http" {
            return Err(OriginUrlError::Scheme(scheme.to_owned()));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(OriginUrlError::MoreThanHost);
        }
        Ok(Self(authority.clone()))
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl OriginUrl {
    /// Whether a connection can be made within `limit`.
    pub(super) async fn is_reachable(&self, limit: Duration) -> bool {
        let address = format!("{}:{}", self.0.host(), self.0.port_u16().unwrap_or(80));
        matches!(tokio::time::timeout(limit, TcpStream::connect(address)).await, Ok(Ok(_)))
    }
}

/// Why the origin gave no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum OriginError {
    /// No connection, or it broke before the response.
    #[error("the origin cannot be reached")]
    Unreachable,
    /// No response in time.
    #[error("the origin did not answer within {0:?}")]
    TimedOut(Duration),
}

impl From<OriginError> for LoadError {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::Unreachable => Self::unavailable(error.to_string()),
            OriginError::TimedOut(_) => Self::timed_out(error.to_string()),
        }
    }
}

/// The origin.
pub(super) struct Origin {
    pub(super) url: OriginUrl,
    client: Client<HttpConnector, Body>,
    pause_max: Duration,
}

impl Origin {
    pub(super) fn new(url: &OriginUrl, config: &GatewayConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.origin_connect_max));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { url: url.clone(), client, pause_max: config.origin_pause_max }
    }

    /// Sends a request and waits for the head of the response; its body is still to come.
    pub(super) async fn send(
        &self,
        method: Method,
        target: Option<&PathAndQuery>,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, OriginError> {
        let request = self.request(method, target, headers, body).ok_or(OriginError::Unreachable)?;
        match tokio::time::timeout(self.pause_max, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response.map(|body| paced(body, self.pause_max))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no response from the origin");
                Err(OriginError::Unreachable)
            }
            Err(_elapsed) => Err(OriginError::TimedOut(self.pause_max)),
        }
    }

    fn request(
        &self,
        method: Method,
        target: Option<&PathAndQuery>,
        headers: HeaderMap,
        body: Body,
    ) -> Option<Request<Body>> {
        let target = target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.url.0.clone()).path_and_query(target);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.build().ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }
}
