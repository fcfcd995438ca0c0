//! A cache without an allocator takes every step that one with an allocator takes.

mod walk;

use tideover_core::storage::Alloc;
use tideover_core::{
    Answer, Cache, Call, Command, Event, Eviction, Fixed, FlightId, Instant, Left, Lookup, News, Policy, Profile, Step,
};

use self::walk::{Subject, Tagged, Walk, policy};

/// Two caches in step.
struct Both<P: Profile> {
    growing: Cache<u8, Tagged, Alloc>,
    fixed: Cache<u8, Tagged, P>,
}

impl<P: Profile> Subject for Both<P> {
    fn policy(&self) -> &Policy {
        self.growing.policy()
    }
    fn lookup(&mut self, key: &u8, call: Call<'_>, now: Instant) -> Lookup<u8, Tagged> {
        same(self.growing.lookup(key, call, now), self.fixed.lookup(key, call, now))
    }
    fn command(&mut self, command: Command<u8, Tagged>, now: Instant) -> Lookup<u8, Tagged> {
        same(self.growing.command(command.clone(), now), self.fixed.command(command, now))
    }
    fn resume(&mut self, flight: FlightId, event: Event<Tagged>, now: Instant) -> Step<u8, Tagged> {
        assert_eq!(self.growing.health(), self.fixed.health());
        same(self.growing.resume(flight, event.clone(), now), self.fixed.resume(flight, event, now))
    }
    fn leave(&mut self, flight: FlightId) -> Left {
        same(self.growing.leave(flight), self.fixed.leave(flight))
    }
    fn expire(&mut self, flight: FlightId, deadline: Instant, now: Instant) -> Answer<Tagged> {
        same(self.growing.expire(flight, deadline, now), self.fixed.expire(flight, deadline, now))
    }
    fn maintain(&mut self, now: Instant) -> Option<FlightId> {
        same(self.growing.maintain(now), self.fixed.maintain(now))
    }
    fn learn(&mut self, news: News, now: Instant) {
        self.growing.learn(news, now);
        self.fixed.learn(news, now);
    }
}

fn same<T: PartialEq + core::fmt::Debug>(growing: T, fixed: T) -> T {
    assert_eq!(growing, fixed);
    growing
}

/// Walks with rooms of the size of the policy's own limits, or without any that are reached.
fn walk<P: Profile>(options: &[(&str, &str)]) {
    let mut policy = policy();
    for (name, value) in options {
        policy.set(name, value).expect("an option");
    }
    for seed in 0..200 {
        policy.store_log = seed % 3 > 0;
        policy.lease = seed % 4 == 0;
        let growing = Cache::new(policy.clone(), seed).expect("a policy");
        let fixed = Cache::new(policy.clone(), seed).expect("a policy");
        let mut walk = Walk::new(Both::<P> { growing, fixed }, seed);
        (0..2_000).for_each(|_| walk.step());
    }
}

#[test]
fn with_room_enough_both_profiles_take_the_same_steps() {
    walk::<Fixed<64, 256, 64, 64>>(&[]);
}

#[test]
fn at_the_limits_both_profiles_take_the_same_steps() {
    for eviction in Eviction::ALL {
        match eviction {
            // What it estimates with is as large as the room, so only a larger room estimates alike.
            Eviction::WTinyLfu => at_the_limits::<Fixed<64, 4, 2, 2>>(eviction.name()),
            _ => at_the_limits::<Fixed<2, 4, 2, 2>>(eviction.name()),
        }
    }
}

fn at_the_limits<P: Profile>(eviction: &str) {
    let limits = [
        ("entries_max", "2"),
        ("flights_max", "4"),
        ("journal_max", "2"),
        ("tags_max", "2"),
        ("load_queue_max", "4"),
        ("eviction", eviction),
    ];
    walk::<P>(&limits);
}
