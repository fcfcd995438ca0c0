//! Values as the host passes them around.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tideover_core::value::saved;
use tideover_core::{Tag, Value};

/// Bytes, and the tags that invalidate them. Cheap to clone; it weighs as many bytes as it has.
///
/// ```
/// use tideover::core::{Tag, Value};
/// use tideover::engine::Payload;
///
/// let page = Payload::from("hello").tagged([Tag::named("greetings")]);
/// assert_eq!((&page.bytes[..], page.weight(), page.tags().len()), (&b"hello"[..], 5, 1));
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The value itself.
    pub bytes: Bytes,
    /// `None` where there are none: a shared empty list would be one counter that every hit of every core counts at.
    tags: Option<Arc<[Tag]>>,
}

impl Payload {
    /// The same value with these tags.
    #[must_use]
    pub fn tagged(self, tags: impl IntoIterator<Item = Tag>) -> Self {
        let tags: Arc<[Tag]> = tags.into_iter().collect();
        Self { tags: Some(tags).filter(|tags| !tags.is_empty()), ..self }
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), tags: None }
    }
}

impl Value for Payload {
    fn weight(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn tags(&self) -> &[Tag] {
        self.tags.as_deref().unwrap_or_default()
    }
}

/// What an envelope holds.
impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// As every engine saves it.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        saved::serialize(&self.bytes, self.tags(), to)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        saved::deserialize(from).map(|(bytes, tags)| Self::from(bytes).tagged(tags))
    }
}

/// Says how many bytes, never which.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("weight", &self.weight()).field("tags", &self.tags()).finish_non_exhaustive()
    }
}
