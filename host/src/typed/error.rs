//! The error of a call with a typed loader.

use std::fmt;
use std::sync::Arc;

use crate::codec::CodecError;
use crate::error::Error;

/// Why a call brought no value: the loader's own error, or something that the cache has to say.
pub enum CallError<E> {
    /// The loader's own error, as it was, shared by everybody who waited for it.
    Loader(Arc<E>),
    /// Everything else.
    Cache(Error),
}

impl<E> CallError<E> {
    /// The loader's own error, if it is one.
    #[must_use]
    pub fn loader(&self) -> Option<&E> {
        match self {
            Self::Loader(error) => Some(error),
            Self::Cache(_) => None,
        }
    }

    /// The error as the loader's own type, which can say what the cache has to say, too. This is what `#[cached]`
    /// functions return.
    pub fn into_own(self) -> E
    where
        E: Clone + From<Error>,
    {
        match self {
            Self::Loader(error) => Arc::unwrap_or_clone(error),
            Self::Cache(error) => error.into(),
        }
    }
}

/// An error of the cache, which may hold that of a typed loader.
impl<E: Send + Sync + 'static> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        let Error::Load(load) = &error else { return Self::Cache(error) };
        if let Some(own) = load.own::<E>() {
            return Self::Loader(own);
        }
        match load.own::<CodecError>() {
            Some(codec) => Self::Cache(Error::Codec(Arc::unwrap_or_clone(codec))),
            None => Self::Cache(error),
        }
    }
}

impl<E> Clone for CallError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Cache(error) => Self::Cache(error.clone()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(error) => f.debug_tuple("Loader").field(error).finish(),
            Self::Cache(error) => f.debug_tuple("Cache").field(error).finish(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(error) => error.fmt(f),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Loader(_) => None,
            Self::Cache(error) => error.source(),
        }
    }
}
