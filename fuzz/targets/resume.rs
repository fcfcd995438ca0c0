//! A driver gone mad: calls and events of all kinds, answers to steps that are not outstanding, for flights that are
//! over or never were. Nothing panics, every limit holds, and when all flights are given up none is left.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use tideover_core::stamp::{Version, Written};
use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Found, Instant, Invalidation, LoadFailure, Loaded,
    LoaderId, News, Note, Policy, Sharing, StoreFailure, Tag, Value, Windows,
};

const TAG: Tag = Tag(7);
const FLIGHTS_MAX: u64 = 16;

#[derive(Clone)]
struct Tagged(bool);

impl Value for Tagged {
    fn tags(&self) -> &[Tag] {
        if self.0 { &[TAG] } else { &[] }
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    let options = [
        ("store", "true"),
        ("ttl", "10s"),
        ("stale_while_revalidate", "5s"),
        ("stale_if_error", "30s"),
        ("load_attempts", "3"),
        ("flights_max", "16"),
        ("journal_max", "3"),
        ("entries_max", "3"),
        ("loads_max", "2"),
        ("load_queue_max", "2"),
        ("refresh_ahead", "50"),
        ("early_refresh", "100"),
        ("soft_deadline", "1s"),
        ("unavailable_ttl", "1s"),
        ("explain", "true"),
        ("store_log", "true"),
    ];
    for (name, value) in options {
        policy.set(name, value).expect("an option");
    }
    policy
}

fn event(kind: u8, detail: u8, policy: &Policy) -> Event<Tagged> {
    let result = match detail % 5 {
        0 => Err(StoreFailure::Unavailable),
        1 => Err(StoreFailure::Rejected),
        2 => Err(StoreFailure::Overloaded),
        _ => Ok(()),
    };
    let version = (detail % 5 > 0).then(|| Version { writer: u64::from(detail % 2), number: u64::from(detail) });
    let written = if detail % 3 == 0 { Written::Overtaken } else { Written::Kept };
    match kind % 13 {
        0 => Event::StoreRead(Ok(Found { version, ..Found::NOTHING })),
        1 => Event::StoreRead(Err(StoreFailure::Corrupt { version: None })),
        2 => {
            let windows = Windows { ttl: Some(Duration::from_secs(10)), ..policy.windows() };
            let entry =
                Entry { age: Duration::from_secs(u64::from(detail)), ..Entry::new(Tagged(detail % 3 == 0), windows) };
            Event::StoreRead(Ok(Found { entry: Some(entry), version, born: u64::from(detail) }))
        }
        3 => Event::Loaded(Ok(Loaded::new(Tagged(detail % 2 == 0)))),
        4 => Event::Loaded(Ok(match detail % 3 {
            0 => Loaded::absent(None, &[]),
            1 => Loaded::NotModified { age: Duration::MAX, windows: None },
            _ => Loaded::Value { value: Tagged(false), age: Duration::ZERO, windows: None, sharing: Sharing::Private },
        })),
        5 => {
            let class = [Class::Unavailable, Class::Answer, Class::Isolated, Class::Panicked][usize::from(detail % 4)];
            let retry_after = (detail % 5 == 0).then_some(Duration::from_millis(u64::from(detail)));
            Event::Loaded(Err(LoadFailure { class, retry_after }))
        }
        6 => Event::Slept,
        7 => Event::Launched,
        8 => Event::Landed,
        9 => Event::StoreWritten(result.map(|()| written)),
        10 => Event::StoreRemoved(result.map(|()| written)),
        11 => Event::StoreInvalidated(result),
        _ if detail % 2 == 0 => Event::StoreCleared(result),
        _ => Event::Resigned,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let policy = policy();
    let mut cache: Cache<u8, Tagged> = Cache::new(policy.clone(), 1).expect("a policy");
    let (mut now, mut newest) = (Instant::ZERO, 1);
    for call in bytes.chunks_exact(3) {
        let (key, detail) = (call[1] % 4, call[2]);
        let flight = FlightId(u64::from(call[1]).min(newest));
        let lookup = match call[0] % 12 {
            0 | 1 => {
                let max_age = (detail % 7 == 0).then_some(Duration::from_secs(2));
                let loader = LoaderId(u64::from(detail % 5));
                let call = Call { read_only: detail % 3 == 0, max_age, loader, within: &[flight], ..Call::default() };
                Some(cache.lookup(&key, call, now))
            }
            2 => Some(cache.command(Command::Put { key, value: Tagged(detail % 2 == 0), windows: None }, now)),
            3 => Some(cache.command(Command::Remove { key }, now)),
            4 => Some(cache.command(Command::Expire { key }, now)),
            5 => {
                let how = if detail % 2 == 0 { Invalidation::Remove } else { Invalidation::Expire };
                Some(cache.command(Command::Invalidate { tag: TAG, how }, now))
            }
            6 if detail % 8 == 0 => Some(cache.command(Command::Clear, now)),
            7 => {
                now = now + Duration::from_millis(u64::from(detail) * 50);
                newest = newest.max(cache.maintain(now).map_or(0, |next| next.0));
                None
            }
            8 => {
                let _left = cache.leave(flight);
                None
            }
            10 => {
                let note = match detail % 4 {
                    0 => Note::Cleared,
                    1 => Note::Unknown,
                    2 => Note::Invalidated(TAG, Invalidation::Expire),
                    _ => Note::Invalidated(TAG, Invalidation::Remove),
                };
                let ago = Duration::from_secs(u64::from(detail));
                cache.learn(News { number: u64::from(call[1]), ago, own: detail % 5 == 0, note }, now);
                None
            }
            9 => {
                let _instead = cache.expire(flight, now, now);
                None
            }
            _ => {
                let _step = cache.resume(flight, event(call[0] / 12, detail, &policy), now);
                None
            }
        };
        if let Some(lookup) = lookup {
            if let Answer::Pending { flight, .. } = lookup.answer {
                newest = newest.max(flight.0);
            }
            newest = newest.max(lookup.launch.map_or(0, |launch| launch.flight.0));
        }
        let stats = cache.health().stats;
        assert!(stats.flights <= FLIGHTS_MAX && stats.loading <= 2 && stats.waiting <= 2 && stats.owed <= 3);
        assert!(cache.memory_stats().entries <= 3);
    }
    // Whoever flew is given up, and so is what its end launches, until nothing is left.
    for _ in 0..4 {
        for flight in 1..=newest + 2 * FLIGHTS_MAX {
            let _step = cache.resume(FlightId(flight), Event::Abandoned, now);
            let _step = cache.resume(FlightId(flight), Event::Landed, now);
        }
    }
    assert_eq!(cache.health().stats.loading, 0, "no load is under way");
});
