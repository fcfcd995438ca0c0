//! How typed values are written as bytes, and read back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How values are written.
#[derive(Debug, Clone, Default)]
pub struct Codec {}

impl Codec {
    /// The value as bytes, bound to `key`; and what these bytes are decoded to, if that was looked at.
    ///
    /// # Errors
    ///
    /// [`CodecError`].
    pub fn encode<V: Serialize + DeserializeOwned>(
        &self,
        _key: &str,
        value: &V,
    ) -> Result<(Bytes, Option<V>), CodecError> {
        let bytes = serde_json::to_vec(value).map_err(|error| CodecError(error.to_string()))?;
        Ok((bytes.into(), None))
    }

    /// What [`encode`](Self::encode) wrote for `key`.
    ///
    /// # Errors
    ///
    /// [`CodecError`].
    pub fn decode<V: DeserializeOwned>(&self, _key: &str, bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
    }
}

/// Why a value could not be written or read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);
