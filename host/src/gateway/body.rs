//! Bodies with a limit on the pauses between their parts.

use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Incoming};

use crate::responses::body::{Body, BoxError, empty};

/// A body that fails when its sender pauses for longer than `pause_max`. It comes without trailers.
pub(super) fn paced(body: Incoming, pause_max: Duration) -> Body {
    if body.is_end_stream() {
        return empty();
    }
    let frames = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(pause_max, body.frame()).await {
            Ok(Some(Ok(frame))) if frame.is_data() => Some((Ok(frame), Some(body))),
            Ok(Some(Ok(_)) | None) => None,
            Ok(Some(Err(broken))) => Some((Err(broken.into()), None)),
            Err(_elapsed) => Some((Err(BoxError::from(Paused(pause_max))), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Its sender paused for too long.
#[derive(Debug, thiserror::Error)]
#[error("no data for {0:?}")]
struct Paused(Duration);
