//! Weight, and the reasons for which entries leave.

use super::*;

fn weighed(weight_max: u64) -> Memory<String, &'static str> {
    Memory::new(MemoryPolicy { entries_max: 100, weight_max, removals_max: 8, ..MemoryPolicy::default() })
}

fn text(text: &'static str) -> Entry<&'static str> {
    Entry::new(text, Windows::FOREVER)
}

fn reports<V: Value>(memory: &mut Memory<String, V>) -> Vec<(String, Reason)> {
    memory.take_removals().collect()
}

#[test]
fn others_leave_until_a_value_fits_by_weight() {
    let mut memory = weighed(10);
    for key in ["a", "b", "c"] {
        assert_eq!(memory.insert(key.to_string(), text("xxx"), 0, at(0)), Kept::Yes);
    }
    assert_eq!(memory.stats().weight, 9);
    memory.insert("d".to_string(), text("xxxxxx"), 0, at(0));
    assert_eq!(reports(&mut memory), [("a".to_string(), Reason::Evicted), ("b".to_string(), Reason::Evicted)]);
    assert_eq!((memory.stats().weight, memory.len()), (9, 2));
}

#[test]
fn a_value_as_heavy_as_everything_is_kept_and_a_heavier_one_is_not() {
    let mut memory = weighed(4);
    assert_eq!(memory.insert("a".to_string(), text("xxxx"), 0, at(0)), Kept::Yes);
    assert_eq!(memory.insert("b".to_string(), text("xxxxx"), 0, at(0)), Kept::TooHeavy);
    assert_eq!((memory.len(), memory.stats().too_heavy), (1, 1), "nobody left for what is not kept");
    assert_eq!(memory.insert("a".to_string(), text("xxxxx"), 0, at(0)), Kept::TooHeavy);
    assert!(memory.is_empty(), "the old value is no longer true");
    assert_eq!(reports(&mut memory), [("a".to_string(), Reason::Replaced)]);
}

#[test]
fn overwriting_evicts_others_only_for_its_weight() {
    for &eviction in Eviction::ALL {
        let policy =
            MemoryPolicy { entries_max: 3, weight_max: 9, removals_max: 9, eviction, ..MemoryPolicy::default() };
        let mut memory: Memory<String, &'static str> = Memory::new(policy);
        for key in ["a", "b", "c"] {
            memory.insert(key.to_string(), text("xxx"), 0, at(0));
        }
        memory.insert("a".to_string(), text("xxx"), 0, at(0));
        memory.insert("a".to_string(), text("x"), 0, at(0));
        assert_eq!((memory.len(), memory.stats().evictions), (3, 0), "{}", eviction.name());
        memory.insert("a".to_string(), text("xxxxxxx"), 0, at(0));
        assert_eq!((memory.len(), memory.stats().evictions), (1, 2), "{}", eviction.name());
        assert!(memory.peek("a", at(0)).is_some_and(|entry| entry.value.len() == 7), "{}", eviction.name());
    }
}

#[test]
fn each_reason_is_reported_and_counted() {
    let policy = MemoryPolicy { entries_max: 2, removals_max: 8, ..MemoryPolicy::default() };
    let mut memory: Memory<String, u32> = Memory::new(policy);
    let insert = |memory: &mut Memory<String, u32>, key: &str, now| {
        memory.insert(key.to_string(), entry(0, 10), 0, now);
    };
    insert(&mut memory, "replaced", at(0));
    insert(&mut memory, "replaced", at(0));
    insert(&mut memory, "removed", at(0));
    memory.remove("removed");
    insert(&mut memory, "b", at(1));
    insert(&mut memory, "c", at(1));
    assert!(memory.find("b", at(11)).is_none());
    memory.invalidate_all(Invalidation::Remove, 1, at(11));
    assert!(memory.find("c", at(1)).is_none());
    insert(&mut memory, "late", at(1));
    memory.insert("d".to_string(), entry(0, 10), 1, at(1));
    memory.clear();
    let reasons = [
        ("replaced", Reason::Replaced),
        ("removed", Reason::Removed),
        ("replaced", Reason::Evicted),
        ("b", Reason::Expired),
        ("c", Reason::Invalidated),
        ("d", Reason::Cleared),
    ];
    assert_eq!(reports(&mut memory), reasons.map(|(key, reason)| (key.to_string(), reason)));
    assert_eq!(reports(&mut memory), [], "taken once");
    assert_eq!(memory.stats().insertions, 0, "a clear starts the counts anew");
}

#[test]
fn reports_that_nobody_takes_make_room_for_newer_ones() {
    let mut memory: Memory<String, u32> =
        Memory::new(MemoryPolicy { entries_max: 1, removals_max: 3, ..MemoryPolicy::default() });
    for key in 0..6_u32 {
        memory.insert(key.to_string(), entry(key, 10), 0, at(0));
    }
    assert_eq!(memory.stats().removals_lost, 2);
    assert!(reports(&mut memory).into_iter().map(|(key, _)| key).eq(["2", "3", "4"]));
    let mut silent = super::memory(1);
    silent.insert("a".to_string(), entry(1, 10), 0, at(0));
    silent.remove("a");
    assert_eq!((reports(&mut silent).len(), silent.stats().removals_lost), (0, 0), "off unless asked for");
}

#[test]
fn a_look_counts_and_moves_nothing() {
    let mut memory = memory(2);
    memory.insert("a".to_string(), entry(1, 10), 0, at(0));
    memory.insert("b".to_string(), entry(2, 10), 0, at(0));
    let before = memory.stats();
    assert_eq!(memory.peek("a", at(9)).map(|entry| entry.age), Some(Duration::from_secs(9)));
    assert!(memory.peek("a", at(10)).is_none(), "over, though nobody has removed it");
    assert_eq!(memory.iter(at(0)).count(), 2);
    assert_eq!(memory.stats(), before);
    memory.insert("c".to_string(), entry(3, 10), 0, at(0));
    assert!(memory.peek("a", at(0)).is_none(), "it had not become newer");
}

#[test]
fn what_is_known_of_failed_refreshes_stays_with_its_key() {
    let mut memory = memory(2);
    let second = Duration::from_secs(1);
    memory.insert("a".to_string(), entry(1, 10), 0, at(0));
    memory.refresh_failed("a", at(0), |failures| second * failures);
    memory.refresh_failed("a", at(0), |failures| second * failures);
    let refresh_after =
        |memory: &mut Memory<String, u32>, key: &str| memory.find(key, at(0)).map(|sighting| sighting.refresh_after);
    assert_eq!(refresh_after(&mut memory, "a"), Some(at(2)));
    memory.adopt("a".to_string(), entry(2, 10), 0, at(0));
    assert_eq!(refresh_after(&mut memory, "a"), Some(at(2)), "the store's copy is no news");
    memory.insert("a".to_string(), entry(3, 10), 0, at(0));
    assert_eq!(refresh_after(&mut memory, "a"), Some(at(0)), "a refresh is");
    memory.refresh_failed("a", at(0), |_| second);
    memory.remove("a");
    memory.insert("b".to_string(), entry(4, 10), 0, at(0));
    assert_eq!(refresh_after(&mut memory, "b"), Some(at(0)), "who takes the row does not inherit it");
}

#[test]
fn bytes_are_those_of_the_tables() {
    let mut memory: Memory<u64, u64> = Memory::new(MemoryPolicy { entries_max: 1_000, ..MemoryPolicy::default() });
    let empty = memory.stats().bytes;
    for key in 0..1_000 {
        memory.insert(key, Entry::new(key, Windows::FOREVER), 0, at(0));
    }
    let each = (memory.stats().bytes - empty) / 1_000;
    assert!((40..=52).contains(&each), "{each}: a row of 32, links of 8, a place in the index");
    let fixed: Memory<u64, u64, Fixed<16, 2, 2, 2>> = Memory::new(MemoryPolicy::default());
    assert_eq!(fixed.stats().bytes, size_of_val(&fixed) as u64);
    assert_eq!(fixed.stats().capacity, 16, "the room bounds what the policy asks for");
}
