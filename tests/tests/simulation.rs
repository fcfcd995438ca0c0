//! A random walk through everything at once: keys, callers, changes, outages of store and origin, cancellations, time.
//!
//! The world and its oracle, which names the laws, are those of [`tideover_tests::world`]. A failure prints the seed of
//! its walk; `SIMULATION_SEED=17` repeats that walk alone. `SIMULATION_WALKS=5000` takes more of them, and
//! `SIMULATION_STEPS=100000` makes each longer.

use std::env;
use std::time::Duration;

use tideover_core::entropy::Entropy;
use tideover_core::{Invalidation, Policy, Step, Tag};
use tideover_tests::world::{Asked, Broken, Key, Reply, World};

const KEYS: u64 = 6;
/// The tags that values bear. What bears one is not kept in stores, so half of the keys bear none.
const TAGS: [Tag; 2] = [Tag::named("one"), Tag::named("two")];
const WALKS: u64 = 2_000;
const STEPS: u64 = 5_000;
/// The oracle looks into the stores each time that so many steps were taken.
const TRUST_EVERY: u64 = 101;

#[test]
fn a_random_walk_breaks_no_law() {
    let asked = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let steps = asked("SIMULATION_STEPS").unwrap_or(STEPS);
    let walks = asked("SIMULATION_WALKS").unwrap_or(WALKS);
    let seeds = asked("SIMULATION_SEED").map_or(0..walks, |seed| seed..seed + 1);
    let mut answered = 0;
    for seed in seeds.clone() {
        let mut walk = Walk::new(seed);
        if let Err(broken) = walk.run(steps) {
            let recent = walk.trace.split_off(walk.trace.len().saturating_sub(60));
            panic!("SIMULATION_SEED={seed} step {}: {broken}\n{}\n{:?}", walk.taken, recent.join("\n"), walk.policy);
        }
        answered += walk.world.answered();
    }
    println!("{} steps, {answered} answers", steps * (seeds.end - seeds.start));
    assert!(answered * 10 > steps * (seeds.end - seeds.start), "only {answered} answers");
}

struct Walk {
    world: World,
    policy: Policy,
    dice: Entropy,
    /// Out of a hundred answers, how many of the store and of the origin fail at present.
    store_failures: u64,
    load_failures: u64,
    taken: u64,
    trace: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut dice = Entropy::from_seed(seed);
        let policy = policy(&mut dice);
        let world = World::new(policy.clone(), seed).expect("a policy that can be");
        let world = world.tagged(tags);
        Self { world, policy, dice, store_failures: 0, load_failures: 0, taken: 0, trace: Vec::new() }
    }

    fn run(&mut self, steps: u64) -> Result<(), Broken> {
        for taken in 0..steps {
            self.taken = taken;
            self.step()?;
            self.keep_time()?;
            if taken % TRUST_EVERY == 0 {
                self.world.check_trust()?;
            }
        }
        self.world.drain()?;
        self.world.check_rest()
    }

    fn step(&mut self) -> Result<(), Broken> {
        let flying = self.world.flying();
        let busy = if flying.is_empty() { 0 } else { 45 };
        if self.chance(busy) {
            let flight = flying[self.pick(flying.len() as u64) as usize];
            let reply = self.reply(flight);
            self.note(format!("{flight:?} {:?} {reply:?}", self.world.step(flight)));
            return self.world.answer(flight, reply);
        }
        let key = self.pick(KEYS) as Key;
        match self.pick(1_000) {
            0..560 => {
                let read_only = self.chance(10);
                let max_age = self.chance(10).then(|| Duration::from_secs(self.pick(4)));
                let asked = Asked { read_only, max_age };
                self.act(format!("lookup {key} {asked:?}"), |world| world.lookup(key, asked))
            }
            560..630 => self.act(format!("put {key}"), |world| world.put(key)),
            630..680 => self.act(format!("remove {key}"), |world| world.remove(key)),
            680..700 => self.invalidate(key),
            700..704 => self.act("clear".to_owned(), World::clear),
            704..730 => self.act("visit".to_owned(), World::maintain),
            730..736 => {
                self.others_note();
                Ok(())
            }
            736..740 => {
                self.note("a change is told".to_owned());
                self.world.tell_change();
                Ok(())
            }
            740..754 => {
                self.world.drift(key);
                Ok(())
            }
            754..757 => self
                .act(format!("another process changes {key}"), |world| world.other_changes(key, key.is_multiple_of(2))),
            757..759 => {
                self.note(format!("another process begins to load {key}"));
                self.world.other_loads(key);
                Ok(())
            }
            759 => match self.pick(6) {
                1..3 => {
                    let time = self.dice.between(Duration::ZERO, Duration::from_secs(4));
                    self.note(format!("another process has the lease on {key} for {time:?}"));
                    self.world.other_leases(key, time);
                    Ok(())
                }
                0 => {
                    self.note("changes were missed".to_owned());
                    self.world.miss_changes();
                    Ok(())
                }
                _ => self.act("a load of another process ends".to_owned(), World::other_load_ends),
            },
            760..763 => {
                self.note("the store restarts empty".to_owned());
                self.world.lose_store();
                Ok(())
            }
            763..800 => self.leave(),
            800..810 => {
                self.change_weather();
                Ok(())
            }
            _ => {
                self.pass_time();
                Ok(())
            }
        }
    }

    fn others_note(&mut self) {
        let tag = TAGS[self.pick(2) as usize];
        match self.pick(12) {
            0 => {
                self.note("another process clears".to_owned());
                self.world.other_clears();
            }
            1..5 => {
                self.note("the log is told".to_owned());
                self.world.tell();
            }
            roll => {
                let how = if roll % 2 == 0 { Invalidation::Remove } else { Invalidation::Expire };
                self.note(format!("another process invalidates {tag:?} {how:?}"));
                self.world.other_invalidates(tag, how);
            }
        }
    }

    fn invalidate(&mut self, key: Key) -> Result<(), Broken> {
        let tag = TAGS[self.pick(2) as usize];
        match self.pick(3) {
            0 => self.act(format!("expire {key}"), |world| world.expire_key(key)),
            1 => self.act(format!("invalidate {tag:?}"), |world| world.invalidate(tag, Invalidation::Remove)),
            _ => self.act(format!("expire {tag:?}"), |world| world.invalidate(tag, Invalidation::Expire)),
        }
    }

    /// What a driver does at a deadline, and a caller at the end of its patience.
    fn keep_time(&mut self) -> Result<(), Broken> {
        for flight in self.world.overdue() {
            self.note(format!("{flight:?} is overdue"));
            self.world.answer(flight, Reply::TimesOut)?;
        }
        self.world.expire()
    }

    fn act(&mut self, what: String, act: impl FnOnce(&mut World) -> Result<(), Broken>) -> Result<(), Broken> {
        self.note(what);
        act(&mut self.world)
    }

    fn leave(&mut self) -> Result<(), Broken> {
        let callers = self.world.callers() as u64;
        if callers == 0 {
            return Ok(());
        }
        let place = self.pick(callers) as usize;
        self.act(format!("caller {place} leaves"), |world| world.leave(place))
    }

    fn change_weather(&mut self) {
        let weather = [0, 0, 5, 50, 100];
        self.store_failures = weather[self.pick(5) as usize];
        self.load_failures = weather[self.pick(5) as usize];
        self.note(format!("store fails {} %, origin {} %", self.store_failures, self.load_failures));
    }

    fn pass_time(&mut self) {
        let longest = [Duration::from_millis(20), Duration::from_millis(500), Duration::from_secs(6)];
        let longest = longest[self.pick(3) as usize];
        let time = self.dice.between(Duration::ZERO, longest);
        // Often exactly to where something is due: the boundaries are where the mistakes are.
        let due = self.world.next_due().map(|due| due - self.world.now()).filter(|_| self.chance(30));
        let time = due.unwrap_or(time);
        self.note(format!("{time:?} pass"));
        self.world.wait(time);
    }

    /// An answer after the present weather.
    fn reply(&mut self, flight: tideover_core::FlightId) -> Reply {
        if self.chance(1) {
            return if self.chance(50) { Reply::Abandoned } else { Reply::Resigned };
        }
        let replies = self.world.replies(flight);
        let bad = match self.world.step(flight) {
            Some(Step::Load { .. }) => self.load_failures,
            Some(Step::Land { .. } | Step::Sleep { .. } | Step::AwaitLease { .. } | Step::Wait) | None => 0,
            Some(_) => self.store_failures,
        };
        let good = |reply: &Reply| matches!(reply, Reply::Well | Reply::AsItBegan | Reply::Applies);
        // An odd result, a "not found" and a corrupt read come in the best weather.
        let odd = |reply: &Reply| {
            use Reply::{Absent, Corrupt, Isolated, NotFound, NotModified, Private, Share};
            matches!(reply, Private | Share | NotFound | Corrupt | Absent | NotModified | Isolated)
        };
        let ends = |reply: &Reply| matches!(reply, Reply::Abandoned | Reply::Resigned);
        let of_kind: Vec<Reply> = if self.chance(bad) {
            replies.into_iter().filter(|reply| !good(reply) && !odd(reply) && !ends(reply)).collect()
        } else if self.chance(15) {
            replies.into_iter().filter(odd).collect()
        } else {
            replies.into_iter().filter(good).collect()
        };
        if of_kind.is_empty() { Reply::Well } else { of_kind[self.pick(of_kind.len() as u64) as usize] }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.pick(100) < percent
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.dice.bits() % below
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:?} {what}", self.world.now()));
    }
}

fn tags(key: Key) -> &'static [Tag] {
    match key {
        1 => &TAGS[..1],
        3 => &TAGS[1..],
        5 => &TAGS,
        _ => &[],
    }
}

/// A policy as nobody would choose it: small limits, short times, everything on.
fn policy(dice: &mut Entropy) -> Policy {
    let mut policy = Policy::default();
    let choices: &[(&str, &[&str])] = &[
        ("store", &["true", "true", "true", "false"]),
        ("store_log", &["true", "true", "false"]),
        ("fallback", &["true", "false"]),
        ("lease", &["false", "true"]),
        ("lease_wait_max", &["0", "1s", "5s"]),
        ("ttl", &["2s", "5s", "1h"]),
        ("stale_while_revalidate", &["0", "3s"]),
        ("stale_if_error", &["0", "20s"]),
        ("keep", &["0", "30s"]),
        ("entries_max", &["1", "3", "50"]),
        ("store_attempts", &["1", "2", "3"]),
        ("load_attempts", &["1", "3"]),
        ("load_deadline", &["1s", "10s"]),
        ("call_deadline", &["2s", "30s"]),
        ("tombstone_for", &["0", "20s", "10m"]),
        ("leader_age_max", &["3s", "30s"]),
        ("flights_max", &["6", "1000"]),
        ("waiters_max", &["2", "1000"]),
        ("journal_max", &["1", "3", "100"]),
        ("private_for", &["1s", "10s"]),
        ("soft_deadline", &["0", "1s"]),
        ("negative_ttl", &["0", "2s", "10s"]),
        ("answer_ttl", &["0", "2s"]),
        ("unavailable_ttl", &["0", "2s"]),
        ("store_breaker_failures", &["1", "5"]),
        ("store_breaker_probes", &["1", "2"]),
        ("load_breaker_failures", &["1", "5"]),
        ("store_breaker_slow_call", &["0", "200ms"]),
        ("load_breaker_slow_call", &["0", "500ms"]),
        ("store_breaker_mode", &["automatic", "automatic", "metrics-only", "forced-closed"]),
        ("breaker_window_calls", &["0", "20"]),
        ("breaker_recovery_for", &["0", "5s"]),
        ("retry_budget", &["0", "20"]),
        ("retry_budget_minimum", &["0", "3"]),
        ("loads_max", &["0", "1", "3"]),
        ("loads_adaptive", &["false", "true"]),
        ("load_queue_max", &["0", "1", "1000"]),
        ("refresh_ahead", &["0", "50", "90"]),
        ("early_refresh", &["0", "100", "1000"]),
        ("time_to_idle", &["0", "4s"]),
        ("eviction", &["lru", "s3-fifo", "sieve", "w-tinylfu"]),
        ("weight_max", &["0", "0", "3"]),
        ("explain", &["false", "true"]),
    ];
    for (option, texts) in choices {
        let text = texts[(dice.bits() % texts.len() as u64) as usize];
        policy.set(option, text).expect("an option");
    }
    // The rule of slow calls is a time and a share.
    if !policy.store_breaker_slow_call.is_zero() {
        policy.store_breaker_slow_rate = 50;
    }
    if !policy.load_breaker_slow_call.is_zero() {
        policy.load_breaker_slow_rate = 50;
    }
    policy
}
