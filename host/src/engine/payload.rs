//! Values as the host passes them around.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

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
#[derive(Clone, Default)]
pub struct Payload {
    /// The value itself.
    pub bytes: Bytes,
    /// `None` where there is nothing: a shared empty one would be one counter that every hit of every core counts at.
    extra: Option<Arc<Extra>>,
}

/// What only some values have.
#[derive(Default)]
struct Extra {
    tags: Box<[Tag]>,
    /// What the bytes were decoded to, so that they are decoded once and not at each hit.
    face: OnceLock<Face>,
}

type Face = Arc<dyn Any + Send + Sync>;

impl Payload {
    /// The same value with these tags.
    #[must_use]
    pub fn tagged(self, tags: impl IntoIterator<Item = Tag>) -> Self {
        let tags: Box<[Tag]> = tags.into_iter().collect();
        if tags.is_empty() && self.tags().is_empty() {
            // With the room for its face, if it has any.
            return self;
        }
        let face = self.extra.and_then(|extra| extra.face.get().cloned());
        if tags.is_empty() && face.is_none() {
            return Self { bytes: self.bytes, extra: None };
        }
        let face = face.map_or_else(OnceLock::new, OnceLock::from);
        Self { bytes: self.bytes, extra: Some(Arc::new(Extra { tags, face })) }
    }

    /// The bytes of `value`, which is what they are decoded to.
    pub(crate) fn with_face<V: Send + Sync + 'static>(bytes: Bytes, value: Arc<V>) -> Self {
        let face = OnceLock::from(value as Face);
        Self { bytes, extra: Some(Arc::new(Extra { face, ..Extra::default() })) }
    }

    /// With room to remember what the bytes are decoded to.
    pub(crate) fn with_room_for_face(self) -> Self {
        Self { extra: self.extra.or_else(|| Some(Arc::default())), ..self }
    }

    /// What the bytes were decoded to, if it was a `V`.
    pub(crate) fn face<V: Send + Sync + 'static>(&self) -> Option<Arc<V>> {
        self.extra.as_ref()?.face.get()?.clone().downcast().ok()
    }

    /// Remembers what the bytes are decoded to, if there is room and it was not done yet.
    pub(crate) fn remember_face<V: Send + Sync + 'static>(&self, value: &Arc<V>) {
        if let Some(extra) = &self.extra {
            let _done_already = extra.face.set(Arc::clone(value) as Face);
        }
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), extra: None }
    }
}

/// As bytes and tags say; what they are decoded to follows from them.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.tags() == other.tags()
    }
}

impl Eq for Payload {}

impl Value for Payload {
    fn weight(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn tags(&self) -> &[Tag] {
        self.extra.as_ref().map_or(&[], |extra| &extra.tags)
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
