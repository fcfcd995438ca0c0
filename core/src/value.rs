//! What the machines know of a value: what it weighs and which tags it bears. Everything else is the driver's affair.

#[cfg(feature = "alloc")]
pub mod saved;

#[cfg(feature = "alloc")]
use alloc::{string::String, sync::Arc, vec::Vec};

/// Tags that one value may bear.
pub const TAGS_MAX: usize = 64;

/// A tag, as a number that is the same in every process: the hash of its name.
///
/// Two names with the same number (one pair in 2^64) are invalidated together, which is safe. The hash is FNV-1a
/// (Fowler, Noll, Vo; 64 bits), spread by the finisher of SplitMix64; it is part of the format of stored entries.
///
/// ```
/// use tideover_core::Tag;
///
/// assert_eq!(Tag::named("user:7"), Tag::named("user:7"));
/// assert_ne!(Tag::named("user:7"), Tag::named("user:70"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of that name.
    #[must_use]
    pub const fn named(name: &str) -> Self {
        let (mut hash, mut rest) = (0xCBF2_9CE4_8422_2325_u64, name.as_bytes());
        while let [byte, tail @ ..] = rest {
            hash = (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01B3);
            rest = tail;
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self(hash ^ (hash >> 31))
    }
}

/// Tags that one absence may bear.
pub const ABSENCE_TAGS_MAX: usize = 4;

/// The tags of an absence: whoever invalidates one of them has it forgotten.
///
/// ```
/// use tideover_core::value::AbsenceTags;
/// use tideover_core::Tag;
///
/// let tags = [Tag::named("users"), Tag::named("user:7")];
/// assert_eq!(AbsenceTags::of(&tags).expect("few enough").as_slice(), tags);
/// assert_eq!(AbsenceTags::of(&[Tag::named("users"); 5]), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AbsenceTags {
    tags: [Tag; ABSENCE_TAGS_MAX],
    count: u8,
}

impl AbsenceTags {
    /// No tag.
    pub const NONE: Self = Self { tags: [Tag(0); ABSENCE_TAGS_MAX], count: 0 };

    /// These tags; `None` if they are more than [`ABSENCE_TAGS_MAX`].
    #[must_use]
    pub fn of(tags: &[Tag]) -> Option<Self> {
        let mut kept = Self::NONE;
        kept.tags.get_mut(..tags.len())?.copy_from_slice(tags);
        kept.count = u8::try_from(tags.len()).ok()?;
        Some(kept)
    }

    /// The tags in the order given.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        self.tags.get(..usize::from(self.count)).unwrap_or(&self.tags)
    }
}

impl core::fmt::Debug for AbsenceTags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// What an invalidation leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum Invalidation {
    /// Nothing: the entries are gone.
    #[default]
    Remove,
    /// The entries as stale ones, inside their windows reckoned from now.
    Expire,
}

/// A value that can be cached. Cloning is to be cheap: every hit clones.
///
/// ```
/// use std::sync::Arc;
/// use tideover_core::{Tag, Value};
///
/// #[derive(Clone)]
/// struct Page {
///     body: Arc<[u8]>,
///     tags: Arc<[Tag]>,
/// }
///
/// impl Value for Page {
///     fn weight(&self) -> u32 {
///         u32::try_from(self.body.len()).unwrap_or(u32::MAX)
///     }
///     fn tags(&self) -> &[Tag] {
///         &self.tags
///     }
/// }
///
/// let page = Page { body: Arc::from(*b"hello"), tags: Arc::from([Tag::named("greetings")]) };
/// assert_eq!((page.weight(), page.tags().len()), (5, 1));
/// ```
pub trait Value: Clone {
    /// What the value counts against a limit by weight, in a unit of the caller's choice. Bytes where they are known,
    /// else 1.
    fn weight(&self) -> u32 {
        1
    }

    /// The tags that invalidate it.
    fn tags(&self) -> &[Tag] {
        &[]
    }
}

macro_rules! plain {
    ($($type:ty),+) => { $(impl Value for $type {})+ };
}

plain!((), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

macro_rules! bytes {
    ($($type:ty),+) => {
        $(impl Value for $type {
            fn weight(&self) -> u32 {
                u32::try_from(self.len()).unwrap_or(u32::MAX)
            }
        })+
    };
}

bytes!(&'static str, &'static [u8]);
#[cfg(feature = "alloc")]
bytes!(String, Vec<u8>, Arc<str>, Arc<[u8]>);

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers lie in shared stores: they must not change between versions.
    #[test]
    fn the_number_of_a_tag_is_for_ever() {
        assert_eq!(Tag::named(""), Tag(0xF52A_15E9_A9B5_E89B));
        assert_eq!(Tag::named("user:7"), Tag::named("user:7"));
    }
}
