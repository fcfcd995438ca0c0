//! Both storages tell the same story, against plain models.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::entropy::Entropy;

/// Every row is found under its hash until it is removed, also where all hashes collide.
fn an_index_finds_what_was_put<I: Index>(rows: u32, hash_of: impl Fn(u32) -> u64) {
    let (mut index, mut model) = (I::default(), BTreeMap::new());
    let mut entropy = Entropy::from_seed(5);
    for _ in 0..5_000 {
        let row = (entropy.bits() % u64::from(rows)) as u32;
        if model.remove(&row).is_some() {
            assert!(index.remove(hash_of(row), row));
            assert!(!index.remove(hash_of(row), row), "it was there once");
        } else {
            index.insert(hash_of(row), row, &hash_of).expect("there is room");
            model.insert(row, ());
        }
        let probe = (entropy.bits() % u64::from(rows)) as u32;
        let found = index.find(hash_of(probe), |row| row == probe);
        assert_eq!(found.is_some(), model.contains_key(&probe));
    }
    index.clear();
    assert!((0..rows).all(|row| index.find(hash_of(row), |other| other == row).is_none()));
}

#[test]
fn indices_agree_with_a_plain_map() {
    let spread = |row: u32| u64::from(row).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    an_index_finds_what_was_put::<<Growing as Storage>::Index>(64, spread);
    an_index_finds_what_was_put::<<Room<64> as Storage>::Index>(64, spread);
    an_index_finds_what_was_put::<<Room<64> as Storage>::Index>(64, |_| u64::MAX);
    assert_eq!(<Room<4> as Storage>::Index::default().insert(0, 4, |_| 0), Err(4), "rows lie below the room");
}

fn a_map_is_a_map<S: Storage>() {
    let mut map: S::Map<u32, u32> = Default::default();
    for key in 0..4 {
        assert_eq!(map.insert(key, key * 10), Ok(None));
    }
    assert_eq!(map.insert(2, 21), Ok(Some(20)));
    assert_eq!(map.insert(9, 0).is_err(), map.capacity_max() == Some(4), "a full room gives back what does not fit");
    map.remove(&9);
    map.retain(|key, _| *key != 0);
    map.values_mut().for_each(|value| *value += 1);
    let mut all: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
    all.sort_unstable();
    assert_eq!(all, [(1, 11), (2, 22), (3, 31)]);
    assert_eq!((map.len(), map.values().sum::<u32>(), map.contains_key(&0)), (3, 64, false));
    map.clear();
    assert!(map.is_empty());
}

#[test]
fn maps_of_both_storages_behave_alike() {
    a_map_is_a_map::<Growing>();
    a_map_is_a_map::<Room<4>>();
}

/// A queue with numbers, against a plain vector of the same items.
fn a_linked_queue_keeps_its_order<S: Storage>() {
    let mut entropy = Entropy::from_seed(3);
    let mut linked: Linked<u64, S> = Linked::new(8);
    let mut model: Vec<(u32, u64)> = Vec::new();
    for item in 0..10_000 {
        let dice = entropy.bits();
        let at = (dice >> 8) as usize % model.len().max(1);
        match (dice % 3, model.get(at).copied()) {
            (0, Some((index, item))) => {
                model.remove(at);
                assert_eq!(linked.remove(index), Some(item));
                assert_eq!(linked.remove(index), None);
            }
            (1, Some(entry)) => {
                model.remove(at);
                model.push(entry);
                linked.renew(entry.0);
            }
            _ => match linked.push_back(item) {
                Ok(index) => model.push((index, item)),
                Err(back) => assert_eq!((back, model.len()), (item, 8), "only a full queue refuses"),
            },
        }
        assert!(linked.iter().map(|(index, item)| (index, *item)).eq(model.iter().copied()));
        assert_eq!((linked.len(), linked.front().map(|(_, item)| *item)), (model.len(), model.first().map(|e| e.1)));
    }
}

#[test]
fn linked_queues_agree_with_a_plain_list() {
    a_linked_queue_keeps_its_order::<Growing>();
    a_linked_queue_keeps_its_order::<Room<8>>();
}

#[test]
fn a_column_grows_up_to_its_room_and_no_further() {
    let mut column: Column<u8, Room<4>> = Column::new(100);
    column.set(2, 7);
    column.set(4, 9);
    assert_eq!((0..6).map(|row| column.get(row)).collect::<Vec<_>>(), [0, 0, 7, 0, 0, 0]);
}

#[test]
fn a_list_never_grows_past_what_it_may_need() {
    let mut slab: Slab<u64, Growing> = Slab::new(100);
    while slab.insert(1).is_ok() {}
    assert_eq!(slab.len(), 100);
    assert!(slab.bytes() <= 100 * 16, "{}", slab.bytes());
}
