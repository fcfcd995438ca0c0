//! What a write makes wrong, as a set: keys, tags and patterns over keys, each to be removed or to be expired.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use tideover_core::Invalidation;
use tideover_core::pattern::Pattern;

use crate::engine::Key;

/// What is to be invalidated: keys, tags and patterns over keys, each once. What it names is removed, or, after [`expire`](Self::expire), stale
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

/// Tags come first: one of them may reach more than all keys. What takes longest comes last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Tag(Box<str>),
    Key(Key),
    Pattern(Box<str>),
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

    /// And every key that matches the pattern: in it `*` stands for any characters, `\\` makes the character after it data,
    /// and all else is data. What comes from elsewhere is [escaped](escape_pattern).
    ///
    /// It reaches what this process has in memory, loads or owes, and what is in the shared store when it is called, which is
    /// walked through: its cost grows with all that is there, as a tag's does not. An outage is survived, as with keys: what
    /// is in the store counts as removed until it is, unless it was written later; whether another process has is known five
    /// seconds after the pattern, as by so much clocks may differ. The same holds for a walk that takes longer than
    /// `call_deadline`: the caller is told that the store is owed the rest. At most 64 patterns are under way or owed at once
    /// ([`Error::JournalFull`](crate::Error::JournalFull)), and those that are owed are not in a
    /// [snapshot](crate::Cache::snapshot). It does not reach what another process has in its memory and the store
    /// has not, nor loads of another process under a key that is not in the store; a tag reaches those.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::Cache;
    /// use tideover::writes::Invalidate;
    ///
    /// let cache = Cache::builder().build()?;
    /// cache.put_many([("user:7:1", "a"), ("user:7:2", "b"), ("user:70:1", "c")], None).await?.into_result()?;
    /// cache.invalidate(Invalidate::new().matching("user:7:*")).await.into_result()?;
    /// let left = cache.get_many(["user:7:1", "user:7:2", "user:70:1"]).await?;
    /// assert_eq!(left.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn matching(mut self, pattern: impl AsRef<str>) -> Self {
        self.add(Target::Pattern(pattern.as_ref().into()), self.how());
        self
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

    /// How many keys, tags and patterns it names.
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

/// The text as a pattern that matches it and nothing else; see [`Invalidate::matching`].
///
/// ```
/// use tideover::writes::escape_pattern;
///
/// assert_eq!(format!("file:{}:*", escape_pattern("a*b")), r"file:a\*b:*");
/// ```
#[must_use]
pub fn escape_pattern(text: &str) -> Cow<'_, str> {
    Pattern::escape(text)
}

/// How many, never which.
impl fmt::Debug for Invalidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted: fn(&Target) -> bool| self.targets.keys().filter(|target| wanted(target)).count();
        f.debug_struct("Invalidate")
            .field("tags", &count(|target| matches!(target, Target::Tag(_))))
            .field("keys", &count(|target| matches!(target, Target::Key(_))))
            .field("patterns", &count(|target| matches!(target, Target::Pattern(_))))
            .finish_non_exhaustive()
    }
}
