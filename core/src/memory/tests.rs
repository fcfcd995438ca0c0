//! What memory promises, as stories.

use super::*;
use crate::entry::Windows;
use crate::eviction::Eviction;
use crate::storage::Fixed;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn memory(entries_max: u32) -> Memory<String, u32> {
    Memory::new(MemoryPolicy { entries_max, ..MemoryPolicy::default() })
}

fn entry(value: u32, ttl: u64) -> Entry<u32> {
    let ttl = Some(Duration::from_secs(ttl));
    Entry::new(value, Windows { ttl, ..Windows::FOREVER })
}

fn value(memory: &mut Memory<String, u32>, key: &str, now: Instant) -> Option<u32> {
    memory.fresh(key, now).map(|entry| entry.value)
}

#[test]
fn a_read_makes_an_entry_the_newest_and_the_oldest_leaves() {
    let mut memory = memory(2);
    memory.insert("a".to_string(), entry(1, 10), 0, at(0));
    memory.insert("b".to_string(), entry(2, 10), 0, at(0));
    assert_eq!(value(&mut memory, "a", at(0)), Some(1));
    memory.insert("c".to_string(), entry(3, 10), 0, at(0));
    assert_eq!(value(&mut memory, "b", at(0)), None);
    assert_eq!(value(&mut memory, "a", at(0)), Some(1));
    assert_eq!(memory.stats().evictions, 1);
}

#[test]
fn overwriting_in_a_full_cache_evicts_nothing_else() {
    let mut memory = memory(2);
    memory.insert("a".to_string(), entry(1, 10), 0, at(0));
    memory.insert("b".to_string(), entry(2, 10), 0, at(0));
    memory.insert("a".to_string(), entry(9, 10), 0, at(0));
    assert_eq!(value(&mut memory, "a", at(0)), Some(9));
    assert_eq!(value(&mut memory, "b", at(0)), Some(2));
    assert_eq!(memory.stats().evictions, 0);
}

#[test]
fn an_entry_that_arrives_aged_is_not_young_again() {
    let mut memory = memory(2);
    memory.insert("a".to_string(), Entry { age: Duration::from_secs(8), ..entry(1, 10) }, 0, at(0));
    assert_eq!(value(&mut memory, "a", at(1)), Some(1));
    assert_eq!(value(&mut memory, "a", at(2)), None);
}

#[test]
fn expired_rows_leave_by_themselves_when_others_arrive() {
    let mut memory = memory(100);
    for key in 0..50_u32 {
        memory.insert(key.to_string(), entry(key, 1), 0, at(0));
    }
    for key in 50..75_u32 {
        memory.insert(key.to_string(), entry(key, 10), 0, at(5));
    }
    assert_eq!(memory.len(), 25);
    assert_eq!(memory.stats().expirations, 50);
}

#[test]
fn what_is_not_read_for_its_idle_time_is_gone_exactly_then() {
    let mut memory =
        Memory::new(MemoryPolicy { time_to_idle: Some(Duration::from_secs(3)), ..MemoryPolicy::default() });
    memory.insert("a".to_string(), entry(1, 100), 0, at(0));
    assert_eq!(value(&mut memory, "a", at(2)), Some(1));
    assert_eq!(value(&mut memory, "a", at(4)), Some(1));
    assert_eq!(value(&mut memory, "a", at(7)), None);
    assert!(memory.find("a", at(7)).is_none());
    assert!(memory.is_empty());
}

/// Against a model that keeps a plain list: the same keys stay, in the same order of recency.
#[test]
fn agrees_with_a_plain_list_over_a_long_random_walk() {
    let mut entropy = crate::entropy::Entropy::from_seed(11);
    let mut memory = memory(8);
    let mut model: Vec<(String, u32)> = Vec::new();
    for step in 0..20_000_u32 {
        let key = (entropy.bits() % 16).to_string();
        let held = model.iter().position(|(k, _)| *k == key);
        match entropy.bits() % 4 {
            0 => {
                assert_eq!(memory.remove(&key), held.is_some());
                held.map(|at| model.remove(at));
            }
            1 => {
                held.map(|at| model.remove(at));
                if model.len() == 8 {
                    model.remove(0);
                }
                model.push((key.clone(), step));
                memory.insert(key, entry(step, 1_000_000), 0, at(0));
            }
            _ => {
                let expected = held.map(|at| model.remove(at));
                assert_eq!(value(&mut memory, &key, at(0)), expected.as_ref().map(|(_, v)| *v));
                model.extend(expected);
            }
        }
        assert_eq!(memory.len(), model.len());
    }
}

mod invalidation;
mod moments;
mod properties;
mod removal;
