//! Invalidation by tag: what was said of which tag, and when, so that rows find out when they are next met.
//!
//! Invalidating a tag notes one number here and touches no row, however many bear the tag. The numbers are those of
//! the machine's logical clock: a value that was *born* at number `n` (its load began then) is told off by every
//! invalidation with a greater number. The table is bounded: when it is full the oldest invalidation is forgotten, and
//! from then on counts against every tagged row that was born before it, whatever its tags. So a bound that is too small
//! costs hits, never correctness.
//!
//! It knows nothing of rows, keys or values.

use crate::storage::{Keyed, Profile};
use crate::time::Instant;
use crate::value::Tag;

pub use crate::value::Invalidation;

/// How a row stands to the invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// None concerns it.
    Valid,
    /// It may have been changed by others, of which nothing was heard.
    Doubted,
    /// Its freshness ended at that moment, if not before.
    Expired(Instant),
    /// It is gone.
    Invalid,
}

impl Verdict {
    /// The harsher of two, and of two expiries the earlier. Whose freshness has ended is in no further doubt.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Expired(one), Self::Expired(two)) => Self::Expired(one.min(two)),
            (Self::Expired(at), _) | (_, Self::Expired(at)) => Self::Expired(at),
            (Self::Doubted, _) | (_, Self::Doubted) => Self::Doubted,
            (Self::Valid, Self::Valid) => Self::Valid,
        }
    }
}

/// What was said of one tag, or of all forgotten ones together. Number 0: nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    removed: u64,
    expired: Expiry,
    /// The expiries before that one: who was born before them is expired since the first of them.
    expired_before: Expiry,
}

#[derive(Debug, Clone, Copy, Default)]
struct Expiry {
    number: u64,
    at: Instant,
}

impl Mark {
    fn note(&mut self, invalidation: Invalidation, number: u64, now: Instant) {
        match invalidation {
            Invalidation::Remove => self.removed = self.removed.max(number),
            Invalidation::Expire => {
                if self.expired.number > 0 {
                    let first = if self.expired_before.number > 0 { self.expired_before } else { self.expired };
                    self.expired_before = Expiry { number: self.expired.number, at: first.at };
                }
                self.expired = Expiry { number: number.max(self.expired.number), at: now };
            }
        }
    }

    /// Takes in what was known of a tag that is forgotten: all of it counts as removed.
    fn absorb(&mut self, other: &Self) {
        self.removed = self.removed.max(other.removed).max(other.expired.number);
    }

    fn verdict(&self, born: u64) -> Verdict {
        if self.removed > born {
            Verdict::Invalid
        } else if self.expired_before.number > born {
            Verdict::Expired(self.expired_before.at)
        } else if self.expired.number > born {
            Verdict::Expired(self.expired.at)
        } else {
            Verdict::Valid
        }
    }
}

/// The table of invalidated tags; see the [module](self).
///
/// ```
/// use tideover_core::storage::Alloc;
/// use tideover_core::tags::{Invalidations, Verdict};
/// use tideover_core::{Instant, Invalidation, Tag};
///
/// let mut said: Invalidations<Alloc> = Invalidations::new(10_000);
/// let tag = Tag::named("user:7");
/// said.note(tag, Invalidation::Remove, 5, Instant::ZERO);
/// assert_eq!(said.verdict(&[tag], 4), Verdict::Invalid);
/// assert_eq!(said.verdict(&[tag], 5), Verdict::Valid, "born after it");
/// assert_eq!(said.verdict(&[Tag::named("user:8")], 4), Verdict::Valid);
/// ```
#[derive(Clone)]
pub struct Invalidations<P: Profile> {
    /// The tag whose newest invalidation is the oldest stands first.
    marks: Keyed<Tag, Mark, P::Tags>,
    floor: Mark,
    newest: u64,
    all: Mark,
    /// Who was born before that number is in doubt.
    doubted: u64,
}

impl<P: Profile> Invalidations<P> {
    /// An empty table for `tags_max` tags, or as many as the profile has room for.
    #[must_use]
    pub fn new(tags_max: usize) -> Self {
        Self { marks: Keyed::new(tags_max), floor: Mark::default(), newest: 0, all: Mark::default(), doubted: 0 }
    }

    /// Notes an invalidation with its number, which is not smaller than any before. Costs the same however many rows
    /// bear the tag.
    pub fn note(&mut self, tag: Tag, invalidation: Invalidation, number: u64, now: Instant) {
        self.newest = self.newest.max(number);
        if let Some(mark) = self.marks.get_mut(&tag) {
            mark.note(invalidation, number, now);
            self.marks.renew(&tag);
            return;
        }
        if self.marks.is_full()
            && let Some((_, mark)) = self.marks.pop_oldest()
        {
            self.floor.absorb(&mark);
        }
        let mut mark = Mark::default();
        mark.note(invalidation, number, now);
        if self.marks.insert(tag, mark).is_err() {
            self.floor.absorb(&mark);
        }
    }

    /// Notes that everything was invalidated, tagged or not.
    pub fn note_all(&mut self, invalidation: Invalidation, number: u64, now: Instant) {
        self.newest = self.newest.max(number);
        self.all.note(invalidation, number, now);
    }

    /// Notes that everything may have been changed, tagged or not.
    pub fn doubt_all(&mut self, number: u64) {
        self.newest = self.newest.max(number);
        self.doubted = number;
    }

    /// The newest number noted: who was born at it or later, or compared with it, is not concerned.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// The number of the newest invalidation or doubt of everything: all that concerns a row without tags.
    #[must_use]
    pub fn everything(&self) -> u64 {
        self.all.removed.max(self.all.expired.number).max(self.doubted)
    }

    /// How a row stands that bears `tags` and was born at number `born`.
    #[must_use]
    #[inline]
    pub fn verdict(&self, tags: &[Tag], born: u64) -> Verdict {
        if born >= self.newest {
            return Verdict::Valid;
        }
        let doubt = if self.doubted > born { Verdict::Doubted } else { Verdict::Valid };
        let of_all = self.all.verdict(born).and(doubt);
        if of_all == Verdict::Invalid || tags.is_empty() {
            return of_all;
        }
        let marks = tags.iter().filter_map(|tag| self.marks.get(tag));
        marks.chain([&self.floor]).fold(of_all, |verdict, mark| verdict.and(mark.verdict(born)))
    }

    /// Tags remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether no tag is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Bytes of heap taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.marks.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Alloc, Fixed};

    const A: Tag = Tag(1);
    const B: Tag = Tag(2);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_invalidation_concerns_who_was_born_before_it_and_bears_the_tag() {
        let mut said: Invalidations<Alloc> = Invalidations::new(10);
        said.note(A, Invalidation::Remove, 7, at(1));
        assert_eq!(said.verdict(&[B, A], 6), Verdict::Invalid);
        assert_eq!(said.verdict(&[B, A], 7), Verdict::Valid, "exactly at its number");
        assert_eq!(said.verdict(&[B], 0), Verdict::Valid);
        assert_eq!(said.verdict(&[], 0), Verdict::Valid);
        said.note(B, Invalidation::Expire, 8, at(2));
        assert_eq!(said.verdict(&[B], 7), Verdict::Expired(at(2)));
        assert_eq!(said.verdict(&[B, A], 6), Verdict::Invalid, "removed outweighs expired");
    }

    #[test]
    fn of_several_expiries_each_row_gets_the_one_it_lived_through() {
        let mut said: Invalidations<Alloc> = Invalidations::new(10);
        said.note(A, Invalidation::Expire, 5, at(10));
        said.note(A, Invalidation::Expire, 6, at(20));
        assert_eq!(said.verdict(&[A], 4), Verdict::Expired(at(10)));
        assert_eq!(said.verdict(&[A], 5), Verdict::Expired(at(20)));
        said.note(A, Invalidation::Expire, 9, at(30));
        assert_eq!(said.verdict(&[A], 4), Verdict::Expired(at(10)), "never later than the truth");
        assert_eq!(said.verdict(&[A], 6), Verdict::Expired(at(30)));
        assert_eq!(said.verdict(&[A], 9), Verdict::Valid);
    }

    fn what_is_forgotten_counts_against_all_who_were_born_before_it<P: Profile>() {
        let mut said: Invalidations<P> = Invalidations::new(4);
        for number in 1..=6 {
            said.note(Tag(number), Invalidation::Remove, number, at(0));
        }
        assert_eq!(said.len(), 4);
        let unconcerned = Tag(99);
        assert_eq!(said.verdict(&[unconcerned], 1), Verdict::Invalid, "tag 2 is forgotten: this might have been it");
        assert_eq!(said.verdict(&[unconcerned], 2), Verdict::Valid, "born after what is forgotten");
        assert_eq!(said.verdict(&[], 0), Verdict::Valid, "without tags nothing can concern it");
        said.note(Tag(3), Invalidation::Remove, 7, at(0));
        said.note(Tag(50), Invalidation::Expire, 8, at(0));
        assert_eq!(said.verdict(&[Tag(3)], 6), Verdict::Invalid, "renewed, so tag 4 was forgotten before it");
        assert_eq!(said.verdict(&[unconcerned], 4), Verdict::Valid);
        assert_eq!(said.verdict(&[unconcerned], 3), Verdict::Invalid);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_errs_on_the_safe_side() {
        what_is_forgotten_counts_against_all_who_were_born_before_it::<Alloc>();
        what_is_forgotten_counts_against_all_who_were_born_before_it::<Fixed<4, 4, 4, 4>>();
    }

    #[test]
    fn expiring_everything_leaves_stale_what_nothing_else_removes() {
        let mut said: Invalidations<Alloc> = Invalidations::new(4);
        said.note_all(Invalidation::Expire, 3, at(7));
        assert_eq!((said.verdict(&[], 2), said.verdict(&[A], 2)), (Verdict::Expired(at(7)), Verdict::Expired(at(7))));
        assert_eq!((said.verdict(&[], 3), said.everything()), (Verdict::Valid, 3));
        said.note(A, Invalidation::Remove, 4, at(8));
        assert_eq!((said.verdict(&[], 2), said.verdict(&[A], 2)), (Verdict::Expired(at(7)), Verdict::Invalid));
    }

    #[test]
    fn doubt_concerns_everything_that_was_born_before_it_and_yields_to_what_is_known() {
        let mut said: Invalidations<Alloc> = Invalidations::new(4);
        said.doubt_all(3);
        assert_eq!((said.verdict(&[], 2), said.verdict(&[A], 2)), (Verdict::Doubted, Verdict::Doubted));
        assert_eq!((said.verdict(&[A], 3), said.everything()), (Verdict::Valid, 3));
        said.note(A, Invalidation::Expire, 4, at(8));
        assert_eq!((said.verdict(&[A], 2), said.verdict(&[B], 2)), (Verdict::Expired(at(8)), Verdict::Doubted));
        said.note(A, Invalidation::Remove, 5, at(9));
        assert_eq!(said.verdict(&[A], 2), Verdict::Invalid);
    }

    #[test]
    fn invalidating_everything_spares_only_who_is_born_later() {
        let mut said: Invalidations<Alloc> = Invalidations::new(4);
        said.note_all(Invalidation::Remove, 3, at(0));
        assert_eq!((said.verdict(&[], 2), said.verdict(&[A], 2)), (Verdict::Invalid, Verdict::Invalid));
        assert_eq!((said.verdict(&[], 3), said.verdict(&[A], 3)), (Verdict::Valid, Verdict::Valid));
    }
}
