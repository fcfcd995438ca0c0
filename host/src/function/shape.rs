//! The four shapes of what cached functions return: a value, perhaps a value, and either of them unless it fails.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Served, Source};
use crate::error::Error;
use crate::{CallError, Fetched, Loaded};

/// A value that a function brought, and what its options say of it.
#[derive(Debug)]
pub struct Value<B> {
    /// The value, or an `Arc` of it.
    pub value: B,
    /// Whether it is kept.
    pub keep: bool,
    /// The tags it bears.
    pub tags: Vec<String>,
}

/// What a function brought that may bring nothing.
#[derive(Debug)]
pub enum Perhaps<B> {
    /// A value.
    Something(Value<B>),
    /// No value; whoever invalidates one of these tags has that forgotten.
    Nothing(Vec<String>),
}

impl<B> Perhaps<B> {
    fn loaded(self, absent_for: Duration) -> Loaded<B> {
        match self {
            Self::Something(value) => value.loaded(),
            Self::Nothing(tags) => Loaded::absent().ttl(absent_for).tags(tags),
        }
    }

    fn alone<V>(self) -> Option<Fetched<Arc<V>>>
    where
        B: Into<Arc<V>>,
    {
        match self {
            Self::Something(value) => Some(value.alone()),
            Self::Nothing(_) => None,
        }
    }
}

impl<B> Value<B> {
    fn loaded(self) -> Loaded<B> {
        let loaded = Loaded::of(self.value).tags(self.tags);
        if self.keep { loaded } else { loaded.do_not_store() }
    }

    /// As if it had been fetched, but nobody else can.
    fn alone<V>(self) -> Fetched<Arc<V>>
    where
        B: Into<Arc<V>>,
    {
        let value = self.value.into();
        let served =
            Served { value, age: Duration::ZERO, ttl: Some(Duration::ZERO), stale: None, source: Source::Load };
        Fetched { private: true, ..Fetched::new(served, None) }
    }
}

/// What the loader of an expansion brings, of which `V` is cached.
pub trait Shape<V>: Send + Sized + 'static {
    /// What lends a `V`.
    type Lent: Borrow<V>;
    /// How the function fails.
    type Error: Send + Sync + 'static;
    /// The same, with a [`Fetched`] for the value and a [`CallError`] for the error.
    type Fetched: Send + 'static;

    /// For the cache; that there is no such thing is remembered for `absent_for`.
    ///
    /// # Errors
    ///
    /// That of the function.
    fn loaded(self, absent_for: Duration) -> Result<Loaded<Self::Lent>, Self::Error>;

    /// For a caller that the cache has not answered.
    fn alone(self) -> Self::Fetched;

    /// What the cache answered; nothing if that is no answer, so that the function is to run.
    fn answer(answer: Result<Fetched<Arc<V>>, CallError<Self::Error>>) -> Option<Self::Fetched>;
}

impl<V, B> Shape<V> for Value<B>
where
    V: Send + Sync + 'static,
    B: Borrow<V> + Into<Arc<V>> + Send + 'static,
{
    type Lent = B;
    type Error = Infallible;
    type Fetched = Fetched<Arc<V>>;

    fn loaded(self, _absent_for: Duration) -> Result<Loaded<B>, Infallible> {
        Ok(Value::loaded(self))
    }

    fn alone(self) -> Self::Fetched {
        Value::alone(self)
    }

    fn answer(answer: Result<Fetched<Arc<V>>, CallError<Infallible>>) -> Option<Self::Fetched> {
        answer.ok()
    }
}

impl<V, B> Shape<V> for Perhaps<B>
where
    V: Send + Sync + 'static,
    B: Borrow<V> + Into<Arc<V>> + Send + 'static,
{
    type Lent = B;
    type Error = Infallible;
    type Fetched = Option<Fetched<Arc<V>>>;

    fn loaded(self, absent_for: Duration) -> Result<Loaded<B>, Infallible> {
        Ok(Perhaps::loaded(self, absent_for))
    }

    fn alone(self) -> Self::Fetched {
        Perhaps::alone(self)
    }

    fn answer(answer: Result<Fetched<Arc<V>>, CallError<Infallible>>) -> Option<Self::Fetched> {
        match answer {
            Ok(fetched) => Some(Some(fetched)),
            Err(CallError::Cache(Error::Absent { .. })) => Some(None),
            Err(_) => None,
        }
    }
}

impl<V, B, E> Shape<V> for Result<Value<B>, E>
where
    V: Send + Sync + 'static,
    B: Borrow<V> + Into<Arc<V>> + Send + 'static,
    E: Send + Sync + 'static,
{
    type Lent = B;
    type Error = E;
    type Fetched = Result<Fetched<Arc<V>>, CallError<E>>;

    fn loaded(self, _absent_for: Duration) -> Result<Loaded<B>, E> {
        self.map(Value::loaded)
    }

    fn alone(self) -> Self::Fetched {
        self.map(Value::alone).map_err(|error| CallError::Loader(Arc::new(error)))
    }

    fn answer(answer: Result<Fetched<Arc<V>>, CallError<E>>) -> Option<Self::Fetched> {
        Some(answer)
    }
}

impl<V, B, E> Shape<V> for Result<Perhaps<B>, E>
where
    V: Send + Sync + 'static,
    B: Borrow<V> + Into<Arc<V>> + Send + 'static,
    E: Send + Sync + 'static,
{
    type Lent = B;
    type Error = E;
    type Fetched = Result<Option<Fetched<Arc<V>>>, CallError<E>>;

    fn loaded(self, absent_for: Duration) -> Result<Loaded<B>, E> {
        self.map(|perhaps| perhaps.loaded(absent_for))
    }

    fn alone(self) -> Self::Fetched {
        self.map(Perhaps::alone).map_err(|error| CallError::Loader(Arc::new(error)))
    }

    fn answer(answer: Result<Fetched<Arc<V>>, CallError<E>>) -> Option<Self::Fetched> {
        Some(match answer {
            Ok(fetched) => Ok(Some(fetched)),
            Err(CallError::Cache(Error::Absent { .. })) => Ok(None),
            Err(error) => Err(error),
        })
    }
}
