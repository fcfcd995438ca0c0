//! What became of a write, stage by stage, as data.

use tideover_core::Settled;

use crate::cache::Cache;
use crate::error::Error;
use crate::store::Reach;

/// What a write was, for [`Cache::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A value of so many bytes was put under a key.
    Put {
        /// Its size, as it is kept: for a typed value that of what its codec wrote.
        bytes: usize,
    },
    /// A key was removed or expired.
    Key,
    /// A tag was invalidated or expired, or everything was cleared.
    Tag,
}

/// What became of a write, stage by stage; from [`Cache::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stages {
    /// The memory of this process.
    pub memory: MemoryStage,
    /// The shared store.
    pub store: StoreStage,
    /// Whether the store is owed it: it is in the journal, and will be brought to the store when that is back.
    pub journaled: bool,
    /// When the memory of other processes follows; `None` if there is nothing to follow: no shared store, or somebody else's
    /// newer write. Of what is owed to the store, from when the store has it.
    pub others: Option<Reach>,
}

/// What became of a write in the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryStage {
    /// It has taken effect: at once, before the call began to wait.
    Done,
    /// A value weighs more than memory may hold (`weight_max`): only the stores have it.
    TooHeavy,
    /// Memory has let go of it, because another process has written something newer.
    LetGo,
}

/// What became of a write in the shared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreStage {
    /// There is none.
    None,
    /// It has taken effect.
    Done,
    /// The store is away: it failed, did not answer in time, or its circuit is open.
    Away,
    /// Another process has written something newer there.
    Overtaken,
}

impl Cache {
    /// What became of each stage of a write that has settled so.
    ///
    /// ```
    /// use tideover::Cache;
    /// use tideover::store::{MemoryStore, Reach};
    /// use tideover::writes::{MemoryStage, StoreStage, Write};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().store(MemoryStore::new(1_000)).build()?;
    /// let settled = cache.put("price:7", "9.99", None).await?;
    /// let stages = cache.stages(Write::Put { bytes: 4 }, settled).require_store()?;
    /// assert_eq!((stages.memory, stages.store, stages.journaled), (MemoryStage::Done, StoreStage::Done, false));
    /// assert_eq!(stages.others, Some(Reach::AtOnce));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stages(&self, write: Write, settled: Settled) -> Stages {
        let max = self.policy().weight_max;
        let memory = match write {
            _ if settled == Settled::Overtaken => MemoryStage::LetGo,
            Write::Put { bytes } if max > 0 && bytes as u64 > max => MemoryStage::TooHeavy,
            Write::Put { .. } | Write::Key | Write::Tag => MemoryStage::Done,
        };
        let store = match settled {
            Settled::Memory => StoreStage::None,
            Settled::Store => StoreStage::Done,
            Settled::Journaled => StoreStage::Away,
            Settled::Overtaken => StoreStage::Overtaken,
        };
        let told = self.guarantees().map(|holds| match write {
            Write::Put { .. } | Write::Key => holds.changed_keys,
            Write::Tag => holds.invalidations,
        });
        let others = told.filter(|_| matches!(store, StoreStage::Done | StoreStage::Away));
        Stages { memory, store, journaled: settled == Settled::Journaled, others }
    }
}

impl Stages {
    /// This, unless the shared store is away. The write has taken effect here nevertheless, and the store will hear of it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub fn require_store(self) -> Result<Self, Error> {
        if self.store == StoreStage::Away { Err(Error::Store { store: None }) } else { Ok(self) }
    }
}
