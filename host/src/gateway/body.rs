//! Bodies on their way: with a limit on the pauses between their parts, and on what is read into memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};

/// A body of either direction.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection that it came on broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// Its sender paused for too long.
    #[error("no data for {0:?}")]
    Paused(Duration),
}

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is at hand.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that fails when its sender pauses for longer than `pause_max`.
pub(super) fn paced(body: Incoming, pause_max: Duration) -> Body {
    if body.is_end_stream() {
        return empty();
    }
    let frames = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(pause_max, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(broken))) => Some((Err(BodyError::Broken(broken)), None)),
            Ok(None) => None,
            Err(_elapsed) => Some((Err(BodyError::Paused(pause_max)), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What [`read`] made of a body.
pub(super) enum Read {
    /// All of it.
    Whole(Bytes),
    /// It is larger than the limit: the body as it was, to be passed on.
    TooLarge(Body),
}

/// Reads a body into memory, up to `bytes_max`.
///
/// # Errors
///
/// [`BodyError`] when it ends before its end.
pub(super) async fn read(mut body: Body, bytes_max: usize) -> Result<Read, BodyError> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        held.extend_from_slice(&data);
        if held.len() > bytes_max {
            return Ok(Read::TooLarge(prefixed(held.freeze(), body)));
        }
    }
    Ok(Read::Whole(held.freeze()))
}

fn prefixed(prefix: Bytes, rest: Body) -> Body {
    let parts = stream::unfold((Some(prefix), rest), |(prefix, mut rest)| async move {
        if let Some(prefix) = prefix {
            return Some((Ok(Frame::data(prefix)), (None, rest)));
        }
        rest.frame().await.map(|frame| (frame, (None, rest)))
    });
    StreamBody::new(parts).boxed_unsync()
}
