//! Promised moments, just before and exactly at.

use super::*;

const NANO: Duration = Duration::from_nanos(1);

fn with(policy: MemoryPolicy) -> Memory<u32, u32> {
    Memory::new(policy)
}

/// The moment so long after zero and the one before.
fn around(seconds: f64) -> (Instant, Instant) {
    let moment = Instant::ZERO + Duration::from_secs_f64(seconds);
    (Instant::from_nanos(moment.as_nanos() - 1), moment)
}

#[test]
fn each_zone_begins_at_its_nanosecond_whatever_the_age_on_arrival() {
    let windows = Windows {
        ttl: Some(Duration::from_secs(10) + NANO),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(20),
        keep: Duration::from_secs(30),
    };
    let zones = [Some(Zone::Fresh), Some(Zone::StaleWhileRevalidate), Some(Zone::StaleIfError), Some(Zone::Keep), None];
    for (age, arrival) in [(0, 0), (3, 0), (3, 100), (9, 2)] {
        let age = Duration::from_secs(age) + NANO * 7;
        let mut memory = with(MemoryPolicy::default());
        memory.insert(1, Entry { age, ..Entry::new(1, windows) }, 0, at(arrival));
        for (seconds, pair) in [10, 15, 30, 40].into_iter().zip(zones.windows(2)) {
            let boundary = at(arrival) + (Duration::from_secs(seconds) + NANO).saturating_sub(age);
            let before = Instant::from_nanos(boundary.as_nanos() - 1);
            let zone = |memory: &mut Memory<u32, u32>, now| memory.find(&1, now).map(|sighting| sighting.zone);
            assert_eq!(memory.fresh(&1, before).is_some(), pair[0] == Some(Zone::Fresh));
            assert_eq!(zone(&mut memory, before), pair[0], "just before {seconds} s at age {age:?}");
            assert!(memory.fresh(&1, boundary).is_none());
            assert_eq!(zone(&mut memory, boundary), pair[1], "exactly at {seconds} s at age {age:?}");
        }
    }
}

#[test]
fn a_refresh_is_due_from_its_share_of_the_ttl_on() {
    let mut memory = with(MemoryPolicy { refresh_ahead: 80, ..MemoryPolicy::default() });
    memory.insert(1, entry(1, 10), 0, at(0));
    let (before, exactly) = around(8.0);
    assert!(memory.fresh(&1, before).is_some());
    assert!(memory.fresh(&1, exactly).is_none(), "no quiet hit any more");
    let sighting = memory.find(&1, exactly).expect("it is there");
    assert_eq!((sighting.zone, sighting.early.due), (Zone::Fresh, true));
    assert_eq!(sighting.early.fresh_for, Duration::from_secs(2));
    assert!(memory.find(&1, before).is_some_and(|sighting| !sighting.early.due));
    memory.insert(2, Entry::new(2, Windows::FOREVER), 0, at(0));
    assert!(memory.fresh(&2, at(1 << 30)).is_some(), "what never ends has no share of it");
}

#[test]
fn early_refresh_is_thought_of_from_twenty_load_times_before_the_end() {
    let mut memory = with(MemoryPolicy { early_refresh: 100, ..MemoryPolicy::default() });
    let load_time = Duration::from_micros(50_000);
    memory.insert(1, Entry { load_time, ..entry(1, 10) }, 0, at(0));
    memory.insert(2, entry(2, 10), 0, at(0));
    let (before, exactly) = around(9.0);
    assert_eq!(memory.fresh(&1, before).map(|entry| entry.load_time), Some(load_time));
    assert!(memory.fresh(&1, exactly).is_none());
    assert!(memory.fresh(&2, exactly).is_some(), "nobody knows what its load takes");
    let early = memory.find(&1, exactly).expect("it is there").early;
    assert_eq!(early, Early { due: false, fresh_for: Duration::from_secs(1), load_time });
    let mut off = with(MemoryPolicy::default());
    off.insert(1, Entry { load_time, ..entry(1, 10) }, 0, at(0));
    assert!(off.fresh(&1, Instant::from_nanos(at(10).as_nanos() - 1)).is_some());
}

#[test]
fn idle_time_is_counted_from_the_last_use() {
    let mut memory = with(MemoryPolicy { time_to_idle: Some(Duration::from_secs(3)), ..MemoryPolicy::default() });
    memory.insert(1, entry(1, 100), 0, at(0));
    let (before, _) = around(3.0);
    assert!(memory.peek(&1, before).is_some() && memory.peek(&1, at(3)).is_none());
    assert!(memory.fresh(&1, before).is_some());
    let (before, exactly) = around(6.0);
    assert!(memory.find(&1, Instant::from_nanos(before.as_nanos() - 1)).is_some());
    assert!(memory.fresh(&1, exactly + Duration::from_secs(3)).is_none());
    assert_eq!(memory.stats().expirations, 1);
}

#[test]
fn a_sweep_removes_what_is_over_and_looks_at_no_more_than_it_is_told_to() {
    let mut memory = with(MemoryPolicy::default());
    for key in 0..100 {
        memory.insert(key, entry(key, 10), 0, at(0));
    }
    memory.sweep(100, Instant::from_nanos(at(10).as_nanos() - 1));
    assert_eq!(memory.len(), 100);
    memory.sweep(30, at(10));
    assert_eq!(memory.len(), 70);
    memory.sweep(usize::MAX, at(10));
    assert!(memory.is_empty());
}
