//! What a direct operation answers, and who has.

use std::fmt;

use crate::Source;

/// The answer of a direct operation, and whose it is.
///
/// ```
/// use tideover::{Cache, Source};
/// use tideover::store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let alone = Cache::builder().build()?.direct();
/// assert_eq!(alone.increment("visits", 1, None).await?.source, Source::Memory);
///
/// let shared = Cache::builder().store(MemoryStore::new(100)).build()?.direct();
/// let visits = shared.increment("visits", 1, None).await?;
/// assert_eq!((visits.value, visits.source, visits.is_fallback()), (1, Source::Store, false));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Who has answered: [`Source::Store`]; [`Source::Fallback`] while the store is away, by what this process knows;
    /// or [`Source::Memory`] where there is no store.
    pub source: Source,
}

impl<T> Answer<T> {
    pub(super) const fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }

    /// Whether the store was away, and this is what stands in for it.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.source == Source::Fallback
    }

    /// The same answer with another value.
    pub fn map<U>(self, value: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: value(self.value), source: self.source }
    }
}

/// Says who has answered, never what.
impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("source", &self.source).finish_non_exhaustive()
    }
}
