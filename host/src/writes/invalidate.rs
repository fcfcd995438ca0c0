//! What a write makes wrong, as a set: keys and tags, each to be removed or to be expired.

use std::collections::BTreeMap;
use std::fmt;

use tideover_core::Invalidation;

use crate::engine::Key;

/// What is to be invalidated: keys and tags, each once. What it names is removed, or, after [`expire`](Self::expire), stale
/// from then on.
///
/// It is data: nothing happens until it is given to [`Cache::invalidate`](crate::Cache::invalidate), to a
/// [`Transaction`](super::Transaction), or to [`writes::invalidate`](super::invalidate()).
///
/// ```
/// use tideover::writes::Invalidate;
///
/// let set = Invalidate::new().key("user:7").tags(["users", "admins", "users"]);
/// assert_eq!(set.len(), 3, "each once");
/// // What is in both is removed: that is the stronger of the two.
/// let both = set.clone().and(Invalidate::new().tag("users").expire());
/// assert_eq!(both, set);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "it is only a description of what is to be invalidated"]
pub struct Invalidate {
    targets: BTreeMap<Target, Invalidation>,
    expires: bool,
}

/// Tags come first: one of them may reach more than all keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Tag(Box<str>),
    Key(Key),
}

impl Invalidate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this key.
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        self.add(Target::Key(key.as_ref().into()), self.how());
        self
    }

    /// And these keys.
    pub fn keys(self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        keys.into_iter().fold(self, Self::key)
    }

    /// And everything that bears the tag of that name.
    pub fn tag(mut self, name: impl AsRef<str>) -> Self {
        self.add(Target::Tag(name.as_ref().into()), self.how());
        self
    }

    /// And everything that bears one of these tags.
    pub fn tags(self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        names.into_iter().fold(self, Self::tag)
    }

    /// All of it, what is added later too, is stale from then on, inside its windows, instead of gone.
    pub fn expire(mut self) -> Self {
        self.expires = true;
        self.targets.values_mut().for_each(|how| *how = Invalidation::Expire);
        self
    }

    /// And what the other set names. What both name is removed if one of them says so.
    pub fn and(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }

    /// How many keys and tags it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (target, how) in other.targets {
            self.add(target, how);
        }
    }

    pub(super) fn forget_key(&mut self, key: &Key) {
        self.targets.remove(&Target::Key(Key::clone(key)));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Target, Invalidation)> {
        self.targets.iter().map(|(target, how)| (target, *how))
    }

    pub(super) fn into_targets(self) -> impl Iterator<Item = (Target, Invalidation)> {
        self.targets.into_iter()
    }

    fn add(&mut self, target: Target, how: Invalidation) {
        let said = self.targets.entry(target).or_insert(how);
        if how == Invalidation::Remove {
            *said = how;
        }
    }

    const fn how(&self) -> Invalidation {
        if self.expires { Invalidation::Expire } else { Invalidation::Remove }
    }
}

/// How many, never which.
impl fmt::Debug for Invalidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.targets.keys().filter(|target| matches!(target, Target::Tag(_))).count();
        f.debug_struct("Invalidate").field("tags", &tags).field("keys", &(self.len() - tags)).finish_non_exhaustive()
    }
}
