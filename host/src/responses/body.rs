//! Bodies on their way, and how much of them is read into memory.

use std::error::Error;
#[cfg(feature = "tower")]
use std::pin::Pin;
#[cfg(feature = "tower")]
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

/// Why a body ended before its end.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A body of either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What [`read`] made of a body.
pub(super) enum Read {
    /// All of it.
    Whole(Bytes),
    /// It cannot be kept: the body as it was, to be passed on.
    NotKept {
        /// What it was, from its beginning.
        body: Body,
        /// Why, as `detail` of `Cache-Status`.
        why: &'static str,
    },
}

/// Reads a body into memory, up to `bytes_max`.
///
/// # Errors
///
/// What the body ended with before its end.
pub(super) async fn read(mut body: Body, bytes_max: usize) -> Result<Read, BoxError> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                return Ok(Read::NotKept {
                    body: preceded([Frame::data(held.freeze()), trailers], body),
                    why: "trailers",
                });
            }
        };
        held.extend_from_slice(&data);
        if held.len() > bytes_max {
            return Ok(Read::NotKept { body: preceded([Frame::data(held.freeze())], body), why: "too-large" });
        }
    }
    Ok(Read::Whole(held.freeze()))
}

/// Any body as one of ours.
#[cfg(feature = "tower")]
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + Send + 'static,
{
    Foreign(Box::pin(body)).boxed_unsync()
}

/// Keeps what the body says of its size, which `map_frame` does not: without it, lengths would not be sent.
#[cfg(feature = "tower")]
struct Foreign<B>(Pin<Box<B>>);

#[cfg(feature = "tower")]
impl<B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>>> http_body::Body for Foreign<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        use bytes::Buf as _;
        let frame = ready!(self.0.as_mut().poll_frame(context));
        let bytes = |frame: Frame<B::Data>| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        Poll::Ready(frame.map(|frame| frame.map(bytes).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

fn preceded<const N: usize>(frames: [Frame<Bytes>; N], rest: Body) -> Body {
    let parts = stream::unfold((frames.into_iter(), rest), |(mut frames, mut rest)| async move {
        if let Some(frame) = frames.next() {
            return Some((Ok(frame), (frames, rest)));
        }
        rest.frame().await.map(|frame| (frame, (frames, rest)))
    });
    StreamBody::new(parts).boxed_unsync()
}
