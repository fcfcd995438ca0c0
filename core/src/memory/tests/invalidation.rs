//! Expiry and invalidation, by key, by tag and of everything.

use core::cell::Cell;

use super::*;
use crate::entry::Windows;

/// Says how often it was asked for its tags.
#[derive(Clone)]
struct Page<'a> {
    tags: &'a [Tag],
    asked: &'a Cell<u32>,
}

impl Value for Page<'_> {
    fn tags(&self) -> &[Tag] {
        self.asked.set(self.asked.get() + 1);
        self.tags
    }
}

const A: Tag = Tag(1);
const B: Tag = Tag(2);

const STALE: Windows = Windows {
    ttl: Some(Duration::from_secs(100)),
    stale_while_revalidate: Duration::from_secs(10),
    stale_if_error: Duration::from_secs(20),
    keep: Duration::ZERO,
};

fn pages<'a>(tags_max: u32) -> Memory<u32, Page<'a>> {
    Memory::new(MemoryPolicy { tags_max, ..MemoryPolicy::default() })
}

fn zone<P: Profile>(memory: &mut Memory<u32, Page<'_>, P>, key: u32, now: Instant) -> Option<Zone> {
    let peeked = memory.peek(&key, now).map(|entry| entry.zone());
    let found = memory.find(&key, now).map(|sighting| sighting.zone);
    assert_eq!(peeked, found, "a look and a lookup agree");
    found
}

#[test]
fn invalidating_a_tag_costs_the_same_however_many_bear_it() {
    let (asked, mut memory) = (Cell::new(0), pages(10));
    for key in 0..1_000 {
        memory.insert(key, Entry::new(Page { tags: &[A, B], asked: &asked }, STALE), 0, at(0));
    }
    asked.set(0);
    memory.invalidate(A, Invalidation::Remove, 1, at(1));
    assert_eq!((asked.get(), memory.len()), (0, 1_000), "no row was touched");
    assert!(memory.fresh(&7, at(1)).is_none() && memory.find(&8, at(1)).is_none());
    assert_eq!((memory.len(), memory.stats().invalidated), (998, 2), "those that were met are gone");
    asked.set(0);
    memory.sweep(500, at(1));
    assert_eq!((memory.len(), asked.get()), (500, 498), "a sweep asks each row once; two of 500 were gone");
}

#[test]
fn an_untouched_table_costs_a_hit_nothing() {
    let (asked, mut memory) = (Cell::new(0), pages(10));
    memory.insert(1, Entry::new(Page { tags: &[A], asked: &asked }, STALE), 0, at(0));
    memory.insert(2, Entry::new(Page { tags: &[], asked: &asked }, STALE), 0, at(0));
    memory.invalidate(B, Invalidation::Remove, 1, at(0));
    asked.set(0);
    assert!(memory.fresh(&2, at(0)).is_some());
    assert_eq!(asked.get(), 0, "what has no tags is never compared");
    for _ in 0..3 {
        assert!(memory.fresh(&1, at(0)).is_some());
    }
    assert_eq!(asked.get(), 1, "what has tags is compared once after each change of the table");
}

#[test]
fn removed_by_tag_is_gone_and_expired_by_tag_is_stale_from_that_moment_on() {
    let asked = Cell::new(0);
    let mut memory = pages(10);
    memory.insert(1, Entry::new(Page { tags: &[A], asked: &asked }, STALE), 0, at(0));
    memory.insert(2, Entry::new(Page { tags: &[B], asked: &asked }, STALE), 0, at(0));
    memory.invalidate(A, Invalidation::Remove, 1, at(5));
    memory.invalidate(B, Invalidation::Expire, 2, at(5));
    assert_eq!(zone(&mut memory, 1, at(5)), None);
    assert_eq!(zone(&mut memory, 2, at(14)), Some(Zone::StaleWhileRevalidate));
    assert!(memory.fresh(&2, at(5)).is_none(), "not even at the very moment");
    let nano = Duration::from_nanos(1);
    let just_before = |seconds| Instant::from_nanos(at(seconds).as_nanos() - 1);
    assert_eq!(zone(&mut memory, 2, just_before(15)), Some(Zone::StaleWhileRevalidate));
    assert_eq!(zone(&mut memory, 2, at(15)), Some(Zone::StaleIfError));
    assert_eq!(zone(&mut memory, 2, just_before(25)), Some(Zone::StaleIfError));
    assert_eq!(zone(&mut memory, 2, just_before(25) + nano), None);
}

#[test]
fn a_tag_expired_later_than_the_ttl_prolongs_nothing() {
    let asked = Cell::new(0);
    let mut memory = pages(10);
    memory.insert(1, Entry::new(Page { tags: &[A], asked: &asked }, STALE), 0, at(0));
    memory.invalidate(A, Invalidation::Expire, 1, at(105));
    assert_eq!(zone(&mut memory, 1, at(109)), Some(Zone::StaleWhileRevalidate));
    assert_eq!(zone(&mut memory, 1, at(110)), Some(Zone::StaleIfError));
}

#[test]
fn what_was_born_before_an_invalidation_and_lands_after_it_is_not_kept() {
    let asked = Cell::new(0);
    let page = || Entry::new(Page { tags: &[A], asked: &asked }, STALE);
    let mut memory = pages(10);
    memory.insert(1, page(), 0, at(0));
    memory.invalidate(A, Invalidation::Remove, 5, at(1));
    assert_eq!(memory.insert(2, page(), 4, at(2)), Kept::Useless);
    assert_eq!(memory.insert(3, page(), 5, at(2)), Kept::Yes);
    memory.invalidate(A, Invalidation::Expire, 6, at(3));
    assert_eq!(memory.insert(4, page(), 5, at(4)), Kept::Yes, "kept, and stale at once");
    assert_eq!(zone(&mut memory, 4, at(4)), Some(Zone::StaleWhileRevalidate));
    assert_eq!(zone(&mut memory, 3, at(4)), Some(Zone::StaleWhileRevalidate));
    assert!(memory.insert(1, page(), 6, at(4)) == Kept::Yes && memory.fresh(&1, at(4)).is_some());
}

fn a_full_table_errs_on_the_safe_side<P: Profile>() {
    let asked = Cell::new(0);
    let mut memory: Memory<u32, Page<'_>, P> = Memory::new(MemoryPolicy { tags_max: 2, ..MemoryPolicy::default() });
    for (key, tags) in [(1, &[A][..]), (2, &[])] {
        memory.insert(key, Entry::new(Page { tags, asked: &asked }, STALE), 0, at(0));
    }
    for number in 1..=3 {
        memory.invalidate(Tag(10 + number), Invalidation::Remove, number, at(0));
    }
    memory.insert(3, Entry::new(Page { tags: &[A], asked: &asked }, STALE), 1, at(0));
    assert_eq!(zone(&mut memory, 1, at(0)), None, "of the forgotten tag nobody knows whether it had it");
    assert_eq!(zone(&mut memory, 2, at(0)), Some(Zone::Fresh), "without tags it had not");
    assert_eq!(zone(&mut memory, 3, at(0)), Some(Zone::Fresh), "born after what is forgotten");
}

#[test]
fn forgotten_invalidations_count_against_every_older_tagged_row() {
    a_full_table_errs_on_the_safe_side::<Usual>();
    a_full_table_errs_on_the_safe_side::<Fixed<8, 2, 2, 2>>();
}

#[test]
fn a_logical_clear_is_in_effect_at_once_and_its_rows_leave_by_themselves() {
    let mut memory = memory(100);
    for key in 0..100_u32 {
        memory.insert(key.to_string(), entry(key, 10), 0, at(0));
    }
    memory.invalidate_all(Invalidation::Remove, 1, at(0));
    assert_eq!(memory.len(), 100, "nothing was walked");
    assert!(memory.iter(at(0)).next().is_none());
    assert!(value(&mut memory, "7", at(0)).is_none());
    assert_eq!(memory.insert("late".to_string(), entry(1, 10), 0, at(0)), Kept::Useless, "loaded before the clear");
    for key in 0..50_u32 {
        memory.insert(format!("new {key}"), entry(key, 10), 1, at(0));
    }
    assert_eq!((memory.len(), memory.stats().invalidated), (50, 100));
    assert_eq!(memory.stats().evictions, 0);
}

#[test]
fn a_physical_clear_forgets_rows_but_no_invalidation() {
    let mut memory = memory(10);
    memory.invalidate_all(Invalidation::Remove, 3, at(0));
    memory.clear();
    assert_eq!(memory.insert("late".to_string(), entry(1, 10), 2, at(0)), Kept::Useless);
    assert_eq!(memory.insert("new".to_string(), entry(1, 10), 3, at(0)), Kept::Yes);
}

#[test]
fn expired_by_key_is_stale_and_removed_by_key_is_gone() {
    let mut memory: Memory<u32, u32> = Memory::new(MemoryPolicy::default());
    memory.insert(1, Entry::new(1, STALE), 0, at(0));
    memory.insert(2, Entry::new(2, Windows { ttl: None, ..STALE }), 0, at(0));
    assert!(memory.expire(&1, at(5)) && memory.expire(&2, at(5)) && !memory.expire(&3, at(5)));
    for key in [1, 2] {
        assert!(memory.fresh(&key, at(5)).is_none());
        assert_eq!(memory.find(&key, at(14)).map(|sighting| sighting.zone), Some(Zone::StaleWhileRevalidate));
        assert_eq!(memory.find(&key, at(15)).map(|sighting| sighting.zone), Some(Zone::StaleIfError));
    }
    assert!(memory.expire(&1, at(15)), "once more changes nothing");
    assert_eq!(memory.find(&1, at(24)).map(|sighting| sighting.zone), Some(Zone::StaleIfError));
    assert!(memory.remove(&2) && memory.find(&2, at(15)).is_none() && !memory.remove(&2));
}

#[test]
fn the_logical_clock_may_run_past_what_a_row_keeps() {
    let far = u64::from(u32::MAX);
    let mut memory = memory(10);
    for number in [0, 5, far - 1, far, far + 1, 3 * far, u64::MAX - 1] {
        memory.insert("a".to_string(), entry(1, 10), number, at(0));
        assert_eq!(value(&mut memory, "a", at(0)), Some(1), "born at {number}");
        memory.invalidate_all(Invalidation::Remove, number + 1, at(0));
        assert_eq!(value(&mut memory, "a", at(0)), None, "cleared at {}", number + 1);
        assert_eq!(memory.insert("b".to_string(), entry(1, 10), number, at(0)), Kept::Useless);
    }
}
