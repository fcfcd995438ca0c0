//! The words of a store's operations.

use serde::{Deserialize, Serialize};

/// What a store can do beside reading, writing and removing. The default is nothing, and what there may be to say
/// later on is not said by `Abilities { ttl: true, ..Abilities::default() }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Abilities {
    /// Entries end by themselves, and their end can be asked for and changed: `expire`, `remaining`.
    pub ttl: bool,
    /// A condition and the change that depends on it are one step: `write_when`, `take`, `delete`.
    pub conditional: bool,
    /// Many keys in one call: `read_many`, `write_many`, `remove_many`.
    pub batch: bool,
    /// Numbers that are counted in one step: `increment`.
    pub counters: bool,
    /// Keys can be looked for: `scan`, `remove_matching`.
    pub scan: bool,
    /// [`Store::replace`](super::Store::replace) compares, in one step with the write. Then a late load of one process
    /// never undoes the newer write or removal of another.
    pub compare: bool,
    /// [`Store::note`](super::Store::note) and [`Store::listen`](super::Store::listen) work. Then tags reach what other
    /// processes have put, and a clear is one note.
    pub log: bool,
    /// Who [listens](super::Store::listen) is told which keys others change. Then what one process puts or removes leaves
    /// the memory of the others at once; otherwise it stays there until its freshness ends.
    pub tracking: bool,
    /// [`Store::lease`](super::Store::lease) works. Then of all processes one loads a key, if they want it so.
    pub lease: bool,
}

impl Abilities {
    /// All of them.
    pub const ALL: Self = Self {
        ttl: true,
        conditional: true,
        batch: true,
        counters: true,
        scan: true,
        compare: true,
        log: true,
        tracking: true,
        lease: true,
    };
}

/// What a cache promises across the processes that share its store: the plan that it has made by what the store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guarantees {
    /// What one process has put or removed is not undone by a load of another that began before it, nor by what another
    /// owes from an outage and changed earlier. Otherwise the store keeps whatever was written last.
    pub late_writes_lose: bool,
    /// An invalidated tag and a clear reach what all processes have put into the store. Otherwise what bears tags is not
    /// shared, and a clear goes from key to key.
    pub invalidations_are_shared: bool,
    /// Of all processes one loads a key at a time: the store can lease, and the option `lease` is on.
    pub loads_are_leased: bool,
    /// When a process's memory lets go of a key that another has put or removed.
    pub changed_keys: Reach,
    /// When a process's memory lets go of what another has invalidated by a tag or cleared.
    pub invalidations: Reach,
    /// An invalidation by pattern finds what is in the store. Otherwise it is refused.
    pub patterns_are_found: bool,
    /// What is of no more use leaves the store by itself: values past their last window, marks of removals past their time.
    /// Otherwise it lies there, unused, until something takes its place.
    pub ended_is_removed: bool,
}

/// When a change by one process reaches the memory of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As soon as it is told, which is at once while the connection holds.
    AtOnce,
    /// With the next operation of the store.
    NextOperation,
    /// Not at all: it stays there until its freshness ends.
    EndOfFreshness,
}

impl Reach {
    /// The name for reports: `at_once`, `next_operation`, `end_of_freshness`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::NextOperation => "next_operation",
            Self::EndOfFreshness => "end_of_freshness",
        }
    }
}

impl From<Abilities> for Guarantees {
    fn from(store: Abilities) -> Self {
        let (at_once, later) = (Reach::AtOnce, Reach::EndOfFreshness);
        Self {
            late_writes_lose: store.compare,
            invalidations_are_shared: store.log,
            loads_are_leased: store.lease,
            changed_keys: if store.tracking { at_once } else { later },
            invalidations: match (store.log, store.tracking) {
                (true, true) => at_once,
                (true, false) => Reach::NextOperation,
                (false, _) => later,
            },
            patterns_are_found: store.scan,
            ended_is_removed: store.ttl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_follows_from_what_the_store_can_do() {
        let promised = |store: Abilities| {
            let Guarantees { late_writes_lose, invalidations_are_shared, changed_keys, invalidations, .. } =
                store.into();
            (late_writes_lose, invalidations_are_shared, changed_keys.name(), invalidations.name())
        };
        assert_eq!(promised(Abilities::ALL), (true, true, "at_once", "at_once"));
        assert_eq!(promised(Abilities::default()), (false, false, "end_of_freshness", "end_of_freshness"));
        let untold = Abilities { tracking: false, ..Abilities::ALL };
        assert_eq!(promised(untold), (true, true, "end_of_freshness", "next_operation"));
        let unlogged = Abilities { log: false, ..Abilities::ALL };
        assert_eq!(promised(unlogged), (true, false, "at_once", "end_of_freshness"));
        let finds = |store: Abilities| {
            let Guarantees { patterns_are_found, ended_is_removed, loads_are_leased, .. } = store.into();
            (patterns_are_found, ended_is_removed, loads_are_leased)
        };
        assert_eq!(finds(Abilities::ALL), (true, true, true));
        assert_eq!(finds(Abilities { scan: false, ..Abilities::ALL }), (false, true, true));
        assert_eq!(finds(Abilities { ttl: false, ..Abilities::ALL }), (true, false, true));
        assert_eq!(finds(Abilities::default()), (false, false, false));
    }
}
