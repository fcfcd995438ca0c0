//! How typed values are written as bytes, and read back: a format, and what is done to its bytes.
//!
//! | codec | what it keeps | for |
//! |---|---|---|
//! | [`Codec::json`] | all but NaN, infinities, and options of options | the default: everything reads it |
//! | [`Codec::message_pack`] | all but options of options | bytes and floats, half the size of JSON |
//! | [`Codec::postcard`] | all but what asks for names (`flatten`, `untagged`, `tag`, `skip_serializing_if`) | size and speed |
//! | [`Codec::raw`] | bytes and text | what is encoded already |
//!
//! Nothing is decided here about where values go and for how long.
//!
//! # Exactness
//!
//! A format may drop what it has no way to say: JSON writes NaN as `null`, and `Some(None)` as `None`. So each value that
//! is written is read back at once, and what serde sees of both is compared: kinds, the bits of floats, options, names of
//! fields, numbers of elements. If there is a difference, nothing is kept and the call fails with
//! [`CodecError::Inexact`]: loudly on the first write, instead of quietly in some later read. Readers get the value that
//! was read back, so they all see the same, whether it was loaded, in memory or in a store.
//!
//! What a type does not serialize (`#[serde(skip)]`) is no part of its value. The order of sets and maps is none either.
//! The check costs another decoding, and two looks at the value, once for each write; [`Codec::unchecked`] saves that.
//!
//! # Changes
//!
//! Each value bears the number of its format, and is read by that: another format, compression, or a new first key takes
//! effect with the next write, and what was written before stays readable. What cannot be read (another type's, an older
//! shape of the type, an unknown key) is a miss of [`Typed`](crate::Typed), and loaded anew. postcard writes no names:
//! what one shape of a type wrote may be read as another. Change the key or the namespace with the type.
//!
//! # Bytes from outside
//!
//! Whatever lies in a store is read within limits: values lie at most 256 levels deep inside each other, have at most as
//! many elements as bytes and 65 536 more, and are at most [`Codec::decompressed_max`] large. No error quotes a key or a
//! value.

mod bounded;
#[cfg(feature = "compression")]
mod compress;
mod error;
mod fingerprint;
mod format;
mod frame;
#[cfg(feature = "encryption")]
mod keys;
mod raw;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::error::CodecError;
use self::fingerprint::Fingerprints;
pub use self::format::Format;
use self::frame::Frame;
#[cfg(feature = "encryption")]
pub use self::keys::{Keys, KeysError};

/// How large a value may be once it is decompressed, unless said otherwise: 64 MiB.
pub const DECOMPRESSED_MAX: usize = 64 << 20;

/// How values are written: a format, and what is done to its bytes. The default is [`Codec::json`]. Cheap to clone.
///
/// ```
/// use tideover::codec::{Codec, CodecError};
///
/// let (bytes, kept) = Codec::json().encode("price:7", &9.99)?;
/// assert_eq!(kept, Some(9.99));
/// assert_eq!(Codec::postcard().decode::<f64>("price:7", &bytes)?, 9.99, "the bytes say how they are written");
///
/// let lossy = Codec::json().encode("price:8", &f64::NAN);
/// assert!(matches!(lossy, Err(CodecError::Inexact { .. })), "JSON has no NaN");
/// # Ok::<(), CodecError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Codec {
    format: Format,
    checked: bool,
    #[cfg(feature = "compression")]
    compress_over: Option<usize>,
    #[cfg(feature = "compression")]
    decompressed_max: usize,
    #[cfg(feature = "encryption")]
    keys: Option<Keys>,
}

impl Default for Codec {
    fn default() -> Self {
        Self::json()
    }
}

impl Codec {
    const fn of(format: Format) -> Self {
        Self {
            format,
            checked: true,
            #[cfg(feature = "compression")]
            compress_over: None,
            #[cfg(feature = "compression")]
            decompressed_max: DECOMPRESSED_MAX,
            #[cfg(feature = "encryption")]
            keys: None,
        }
    }

    /// JSON. It has no NaN and no infinities, and takes `Some(None)` for `None`; keys of maps are text or numbers.
    #[must_use]
    pub const fn json() -> Self {
        Self::of(Format::Json)
    }

    /// MessagePack, with the names of fields: about half of JSON, and it keeps every float. It takes `Some(None)` and
    /// `Some(())` for `None`.
    #[cfg(feature = "messagepack")]
    #[must_use]
    pub const fn message_pack() -> Self {
        Self::of(Format::MessagePack)
    }

    /// postcard: the smallest and the fastest. It writes neither names nor kinds, so it keeps nothing that needs them to
    /// be read: `flatten`, `untagged`, `tag`, `skip_serializing_if`.
    #[must_use]
    pub const fn postcard() -> Self {
        Self::of(Format::Postcard)
    }

    /// The bytes of values that are bytes or text, as they are: `Bytes`, `Vec<u8>`, `[u8; 32]`, `String`, `Arc<str>`,
    /// newtypes of them, and what writes itself as text, such as `IpAddr`. Everything else is refused.
    #[must_use]
    pub const fn raw() -> Self {
        Self::of(Format::Raw)
    }

    /// The codec of that name in configurations: the [`Format::name`] of its format.
    ///
    /// ```
    /// use tideover::codec::{Codec, Format};
    ///
    /// assert_eq!(Codec::named("postcard").map(|codec| codec.format()), Ok(Format::Postcard));
    /// let unknown = Codec::named("pickle").expect_err("there is none");
    /// let said = "no codec is named \"pickle\"; there are `json`, `messagepack`, `postcard`, `raw`";
    /// assert_eq!(unknown.to_string(), said);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CodecError::UnknownName`], and [`CodecError::Disabled`] for a format that this build lacks.
    pub fn named(name: &str) -> Result<Self, CodecError> {
        let named = Format::ALL.into_iter().find(|format| format.name() == name);
        match named {
            #[cfg(not(feature = "messagepack"))]
            Some(Format::MessagePack) => Err(format::NO_MESSAGE_PACK),
            Some(format) => Ok(Self::of(format)),
            None => Err(CodecError::UnknownName { name: name.to_owned() }),
        }
    }

    /// What values are written as.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Does not look whether values are kept [exactly](self#exactness): a write costs a third, and whoever reads first
    /// decodes. For types that are known to be kept, as tests with the checking codec have shown.
    #[must_use]
    pub const fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    /// Values of more than so many bytes are compressed (LZ4), if that makes them smaller. Below some hundred bytes it
    /// seldom does.
    ///
    /// Values that are also [encrypted](Self::encrypted) are compressed before: how long the result is then tells whoever
    /// sees it something of how the parts of a value resemble each other. Do not compress secrets beside text that an
    /// attacker may choose (the attacks CRIME and BREACH).
    #[cfg(feature = "compression")]
    #[must_use]
    pub const fn compress_over(mut self, bytes: usize) -> Self {
        self.compress_over = Some(bytes);
        self
    }

    /// How large a value may say it is once it is decompressed: [`DECOMPRESSED_MAX`] if not said otherwise. It is looked
    /// at before anything is allocated; larger values are not compressed when they are written.
    #[cfg(feature = "compression")]
    #[must_use]
    pub const fn decompressed_max(mut self, bytes: usize) -> Self {
        self.decompressed_max = bytes;
        self
    }

    /// Values are encrypted before they reach memory, a store or a snapshot (AES-256-GCM), and bound to their key in the
    /// cache: moved to another one, or altered in any bit, they are refused. Values that are not encrypted are refused,
    /// too, and so are a miss: what was cached before encryption was switched on is loaded anew.
    ///
    /// In this process the decoded value lies in memory beside the encrypted bytes, in plain text, for as long as the
    /// entry lives: it is not decrypted for each hit. Keys of the cache, names of tags and the length of values are not
    /// hidden. The name of a namespace is not part of what a value is bound to: two namespaces that must not be
    /// exchanged take different [`Keys`]. An older value of the same key is not told from the newest.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encrypted(self, keys: Keys) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The value as bytes, bound to `key`; and what these bytes are decoded to, unless the codec is
    /// [unchecked](Self::unchecked).
    ///
    /// # Errors
    ///
    /// [`CodecError::Unwritable`] and [`CodecError::Inexact`] for a value that the format cannot keep,
    /// [`CodecError::Unserializable`], [`CodecError::TooDeep`], [`CodecError::TooManyElements`],
    /// [`CodecError::NotEncryptable`].
    pub fn encode<V: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        value: &V,
    ) -> Result<(Bytes, Option<V>), CodecError> {
        let fingerprints = Fingerprints::new(self.format.is_human_readable());
        // First of all, since it is the one that stops at a limit: a format goes as deep as the value does.
        let before = if self.checked { Some(fingerprints.of(value)?) } else { None };
        let mut frame = vec![0; self.header_length()];
        self.format.write(value, &mut frame)?;
        let twin = match before {
            Some(before) => Some(self.twin(&frame[self.header_length()..], before, &fingerprints)?),
            None => None,
        };
        let compressed = self.compress(&mut frame);
        self.close(key, compressed, &mut frame)?;
        Ok((frame.into(), twin))
    }

    /// What `body` is read as, if that is what was written.
    fn twin<V: Serialize + DeserializeOwned>(
        &self,
        body: &[u8],
        before: u64,
        fingerprints: &Fingerprints,
    ) -> Result<V, CodecError> {
        let inexact = |reason| CodecError::Inexact { of: std::any::type_name::<V>(), format: self.format, reason };
        let twin = self.format.read(body).map_err(|error| match error {
            CodecError::Unreadable { reason, .. } => inexact(format!("it could not be read back: {reason}")),
            error => error,
        })?;
        if fingerprints.of(&twin)? == before {
            Ok(twin)
        } else {
            Err(inexact("it would be read back as another value".to_owned()))
        }
    }

    /// What [`encode`](Self::encode) wrote for `key`, with this codec or another one of the same keys.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for everything else: whatever the bytes are, this neither panics nor allocates past its limits.
    pub fn decode<V: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<V, CodecError> {
        let frame = Frame::parse(bytes)?;
        let body = self.open(key, &frame)?;
        let body = if frame.compressed { Cow::Owned(self.decompress(&body)?) } else { body };
        frame.format.read(&body)
    }
}

#[cfg(feature = "compression")]
impl Codec {
    fn compress(&self, frame: &mut Vec<u8>) -> bool {
        let from = self.header_length();
        let body = frame.len() - from;
        let worth_it = self.compress_over.is_some_and(|over| body > over) && body <= self.decompressed_max;
        worth_it && compress::compress(frame, from)
    }

    fn decompress(&self, body: &[u8]) -> Result<Vec<u8>, CodecError> {
        compress::decompress(body, self.decompressed_max)
    }
}

#[cfg(not(feature = "compression"))]
impl Codec {
    const fn compress(&self, _frame: &mut Vec<u8>) -> bool {
        false
    }

    const fn decompress(&self, _body: &[u8]) -> Result<Vec<u8>, CodecError> {
        Err(CodecError::Disabled { what: "compression", feature: "compression" })
    }
}

#[cfg(feature = "encryption")]
impl Codec {
    const fn header_length(&self) -> usize {
        if self.keys.is_some() { frame::SEALED_HEADER } else { frame::PLAIN_HEADER }
    }

    fn close(&self, key: &str, compressed: bool, frame: &mut Vec<u8>) -> Result<(), CodecError> {
        match &self.keys {
            Some(keys) => keys.seal(key, self.format, compressed, frame)?,
            None => frame::write_header(frame, self.format, compressed, None),
        }
        Ok(())
    }

    fn open<'a>(&self, key: &str, frame: &Frame<'a>) -> Result<Cow<'a, [u8]>, CodecError> {
        match (frame.sealed, &self.keys) {
            (None, None) => Ok(Cow::Borrowed(frame.body)),
            (Some(sealed), Some(keys)) => keys.open(key, frame, sealed).map(Cow::Owned),
            (None, Some(_)) => Err(CodecError::NotEncrypted),
            (Some(sealed), None) => Err(CodecError::Encrypted { key_id: sealed.key_id }),
        }
    }
}

#[cfg(not(feature = "encryption"))]
impl Codec {
    const fn header_length(&self) -> usize {
        frame::PLAIN_HEADER
    }

    fn close(&self, _key: &str, compressed: bool, frame: &mut [u8]) -> Result<(), CodecError> {
        frame::write_header(frame, self.format, compressed, None);
        Ok(())
    }

    const fn open<'a>(&self, _key: &str, frame: &Frame<'a>) -> Result<Cow<'a, [u8]>, CodecError> {
        match frame.sealed {
            None => Ok(Cow::Borrowed(frame.body)),
            Some(_) => Err(CodecError::Disabled { what: "encryption", feature: "encryption" }),
        }
    }
}

#[cfg(all(test, feature = "messagepack", feature = "compression", feature = "encryption"))]
mod tests;
