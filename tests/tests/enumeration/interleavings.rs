//! Several callers at one key: their steps are answered in every order, well or not, and at every moment the oracle asks
//! what the stores would give.
//!
//! The world and its oracle are those of [`tideover_tests::world`].

use std::time::Duration;

use tideover_core::{FlightId, Invalidation, Policy, Step, Tag, Tier};
use tideover_tests::world::{Asked, Broken, Key, Reply, World};

/// The key that these histories are about; where there is another one, it is 2.
const KEY: Key = 1;

/// What its values bear where tags matter.
const TAG: Tag = Tag::named("tag");

/// What callers do, in this order, at every possible moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Lookup,
    /// A lookup that nothing older than a second does for.
    LookupNew,
    /// A lookup without a loader.
    Get,
    Put(Key),
    Remove(Key),
    Expire,
    /// Of the tag of the key.
    Invalidate(Invalidation),
    Clear,
    /// Another process puts the key, or removes it.
    TheyPut,
    TheyRemove,
    /// Another process reads the store and loads the key, and later writes what it has loaded.
    TheyLoad,
    TheyWrite,
    /// Another process invalidates the tag of the key.
    TheyInvalidate(Invalidation),
    /// The machine is told what stands in the log.
    Told,
}

use Act::{
    Clear, Expire, Get, Invalidate, Lookup, LookupNew, Put, Remove, TheyInvalidate, TheyLoad, TheyPut, TheyRemove,
    TheyWrite, Told,
};

/// How often what nobody wishes for may happen in one history.
#[derive(Debug, Clone, Copy, Default)]
struct Budget {
    /// Answers that are no success.
    failures: u8,
    /// Flights given up.
    abandoned: u8,
    /// Leaders that go with their loader.
    resigned: u8,
    /// Times that two seconds pass.
    waits: u8,
    /// Regular visits of the driver.
    visits: u8,
    /// Callers that go away.
    leaves: u8,
    /// Restarts of the shared store, which lose everything in it.
    restarts: u8,
}

struct Exploration {
    /// The answers that are no success, as far as this exploration is about them.
    failures: &'static [Reply],
    /// Landings and the fallback answer at once and well; halves the length of a history.
    quick: bool,
    histories: u64,
    states: u64,
    trace: Vec<String>,
}

impl Exploration {
    fn new(failures: &'static [Reply]) -> Self {
        Self { failures, quick: false, histories: 0, states: 0, trace: Vec::new() }
    }

    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    /// Explores everything, which must be at least so many histories.
    fn run(mut self, world: &World, script: &[Act], budget: Budget, histories: u64) {
        let began = std::time::Instant::now();
        self.explore(world, script, budget);
        println!("{script:?} {budget:?}: {} histories, {} states, {:?}", self.histories, self.states, began.elapsed());
        assert!(self.histories >= histories, "{script:?} {budget:?}: only {} histories", self.histories);
    }

    fn explore(&mut self, world: &World, script: &[Act], budget: Budget) {
        self.states += 1;
        let flying = world.flying();
        if let Some(flight) = flying.iter().copied().find(|flight| self.quick && answers_at_once(world, *flight)) {
            return self.branch(world, script, budget, "", |world| world.answer(flight, Reply::Well));
        }
        self.hold(world.check_trust());
        if flying.is_empty() && script.is_empty() {
            self.histories += 1;
            return self.hold(world.check_rest());
        }
        if let [act, rest @ ..] = script {
            self.branch(world, rest, budget, act, |world| perform(world, *act));
        }
        for flight in flying {
            for reply in world.replies(flight) {
                if let Some(left) = self.afford(reply, budget) {
                    self.branch(world, script, left, (flight, reply), |world| world.answer(flight, reply));
                }
            }
        }
        self.surprises(world, script, budget);
    }

    /// What happens by itself.
    fn surprises(&mut self, world: &World, script: &[Act], budget: Budget) {
        if let Some(waits) = budget.waits.checked_sub(1) {
            let left = Budget { waits, ..budget };
            self.branch(world, script, left, "two seconds", |world| {
                world.wait(Duration::from_secs(2));
                world.expire()
            });
        }
        if let Some(visits) = budget.visits.checked_sub(1) {
            self.branch(world, script, Budget { visits, ..budget }, "visit", World::maintain);
        }
        if let Some(restarts) = budget.restarts.checked_sub(1) {
            self.branch(world, script, Budget { restarts, ..budget }, "restart", |world| {
                world.lose_store();
                Ok(())
            });
        }
        for place in 0..world.callers() {
            if let Some(leaves) = budget.leaves.checked_sub(1) {
                let left = Budget { leaves, ..budget };
                self.branch(world, script, left, ("leave", place), |world| world.leave(place));
            }
        }
    }

    fn afford(&self, reply: Reply, budget: Budget) -> Option<Budget> {
        match reply {
            Reply::Well | Reply::AsItBegan | Reply::Applies => Some(budget),
            Reply::Resigned => budget.resigned.checked_sub(1).map(|resigned| Budget { resigned, ..budget }),
            Reply::Abandoned => budget.abandoned.checked_sub(1).map(|abandoned| Budget { abandoned, ..budget }),
            reply if self.failures.contains(&reply) => {
                budget.failures.checked_sub(1).map(|failures| Budget { failures, ..budget })
            }
            _ => None,
        }
    }

    fn branch(
        &mut self,
        world: &World,
        script: &[Act],
        budget: Budget,
        what: impl std::fmt::Debug,
        happens: impl FnOnce(&mut World) -> Result<(), Broken>,
    ) {
        let mut next = world.clone();
        self.trace.push(format!("{what:?}"));
        let result = happens(&mut next);
        self.hold(result);
        self.explore(&next, script, budget);
        self.trace.pop();
    }

    fn hold(&self, result: Result<(), Broken>) {
        if let Err(broken) = result {
            panic!("{broken}\nafter:\n  {}", self.trace.join("\n  "));
        }
    }
}

fn answers_at_once(world: &World, flight: FlightId) -> bool {
    matches!(
        world.step(flight),
        Some(
            Step::Land { .. }
                | Step::ReadStore { tier: Tier::Fallback, .. }
                | Step::WriteStore { tier: Tier::Fallback, .. }
                | Step::RemoveStore { tier: Tier::Fallback, .. }
                | Step::ClearStore { tier: Tier::Fallback, .. }
        )
    )
}

fn perform(world: &mut World, act: Act) -> Result<(), Broken> {
    match act {
        TheyPut => world.other_changes(KEY, true),
        TheyRemove => world.other_changes(KEY, false),
        TheyLoad => {
            world.other_loads(KEY);
            Ok(())
        }
        TheyWrite => world.other_load_ends(),
        TheyInvalidate(how) => {
            world.other_invalidates(TAG, how);
            Ok(())
        }
        Told => {
            world.tell();
            Ok(())
        }
        Lookup => world.lookup(KEY, Asked::default()),
        LookupNew => world.lookup(KEY, Asked { max_age: Some(Duration::from_secs(1)), ..Asked::default() }),
        Get => world.lookup(KEY, Asked { read_only: true, ..Asked::default() }),
        Put(key) => world.put(key),
        Remove(key) => world.remove(key),
        Expire => world.expire_key(KEY),
        Invalidate(how) => world.invalidate(TAG, how),
        Clear => world.clear(),
    }
}

/// One entry of memory, so that the oracle can push it out; one attempt at the store; circuits that open at once.
fn policy(changes: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    let usual = [
        ("store", "true"),
        ("entries_max", "1"),
        ("ttl", "10s"),
        ("stale_if_error", "1h"),
        ("store_attempts", "1"),
        ("store_breaker_failures", "1"),
        ("wait_jitter", "0"),
        ("retry_jitter", "none"),
    ];
    for (option, text) in usual.iter().chain(changes) {
        policy.set(option, text).expect("an option");
    }
    policy
}

fn world(changes: &[(&str, &str)]) -> World {
    World::new(policy(changes), 7).expect("a policy that can be")
}

/// As [`world`], with a fresh value of another process in both stores.
fn stocked(changes: &[(&str, &str)]) -> World {
    let mut world = world(changes);
    world.stock(KEY, Duration::from_secs(1));
    world
}

const FAILS: &[Reply] = &[Reply::Fails];
const REFUSES: &[Reply] = &[Reply::Fails, Reply::Rejects];
const ANY_FAILURE: &[Reply] =
    &[Reply::Fails, Reply::Rejects, Reply::Corrupt, Reply::NotFound, Reply::Panics, Reply::Private, Reply::Share];
const ODD: &[Reply] = &[Reply::Absent, Reply::NotModified, Reply::Isolated, Reply::NotFound, Reply::Fails];
const NONE: Budget = Budget { failures: 0, abandoned: 0, resigned: 0, waits: 0, visits: 0, leaves: 0, restarts: 0 };
const WITHOUT_FALLBACK: &[(&str, &str)] = &[("fallback", "false")];

/// Two callers and a change between them: every order of every step, one failure, one caller that goes away.
#[test]
fn what_was_read_or_loaded_before_a_change_is_not_served_after_it() {
    let scripts = [
        ([Lookup, Remove(KEY), Lookup], 100_000, 15_000),
        ([Lookup, Put(KEY), Lookup], 1_000, 1_000),
        ([Lookup, Clear, Lookup], 70_000, 15_000),
        ([Get, Remove(KEY), Lookup], 20_000, 3_000),
        ([Get, Put(KEY), Get], 400, 300),
    ];
    for (script, without_fallback, with_fallback) in scripts {
        let one = Budget { failures: 1, ..NONE };
        Exploration::new(FAILS).run(&stocked(WITHOUT_FALLBACK), &script, one, without_fallback);
        let leaves = Budget { failures: 1, leaves: 1, ..NONE };
        Exploration::new(FAILS).quick().run(&stocked(&[]), &script, leaves, with_fallback);
    }
}

/// Two callers at once, whatever becomes of store and origin.
#[test]
fn two_lookups_share_one_load_and_are_always_answered() {
    for (window, histories) in [("0", 20_000), ("5s", 10_000)] {
        let options = [("stale_while_revalidate", window), ("ttl", "2s"), ("load_attempts", "2")];
        let budget = Budget { failures: 2, abandoned: 1, waits: 1, leaves: 1, ..NONE };
        Exploration::new(ANY_FAILURE).quick().run(&stocked(&options), &[Lookup, Lookup], budget, histories);
    }
}

/// Two changes of a key, an outage, a restart that loses what the store had.
#[test]
fn the_newer_of_two_changes_survives_an_outage() {
    for script in [[Put(KEY), Put(KEY)], [Put(KEY), Remove(KEY)], [Remove(KEY), Put(KEY)]] {
        let outage = Budget { failures: 3, waits: 2, visits: 1, restarts: 1, ..NONE };
        Exploration::new(REFUSES).quick().run(&stocked(&[]), &script, outage, 70_000);
        let abandoned = Budget { failures: 1, abandoned: 1, visits: 1, ..NONE };
        Exploration::new(FAILS).run(&stocked(&[]), &script, abandoned, 100_000);
    }
}

/// The journal holds one change: the second one overflows it.
#[test]
fn a_full_journal_loses_nothing() {
    for (script, histories) in [([Put(1), Remove(2), Put(1)], 100_000), ([Remove(1), Put(2), Remove(1)], 100_000)] {
        let outage = Budget { failures: 1, waits: 1, visits: 1, ..NONE };
        Exploration::new(FAILS).quick().run(&stocked(&[("journal_max", "1")]), &script, outage, histories);
    }
}

/// A clear among changes and lookups, in an outage.
#[test]
fn a_clear_wins_over_all_that_came_before_it() {
    let outage = Budget { failures: 1, visits: 1, waits: 1, ..NONE };
    let failure = Budget { failures: 1, ..NONE };
    let scripts = [
        ([Put(1), Clear, Put(1)], outage, 100_000),
        ([Put(1), Put(1), Clear], outage, 80_000),
        ([Lookup, Clear, Lookup], failure, 2_500),
        ([Put(1), Clear, Clear], failure, 30_000),
    ];
    for (script, budget, histories) in scripts {
        Exploration::new(FAILS).quick().run(&stocked(&[]), &script, budget, histories);
    }
}

/// A clear and what was under way, with every step of the fallback as well.
#[test]
fn a_clear_of_the_fallback_wins_too() {
    let failure = Budget { failures: 1, ..NONE };
    let abandoned = Budget { abandoned: 1, ..NONE };
    for (script, budget, histories) in [
        ([Put(1), Clear], failure, 50_000),
        ([Put(1), Clear], abandoned, 70_000),
        ([Lookup, Clear], failure, 10_000),
        ([Lookup, Clear], abandoned, 10_000),
    ] {
        Exploration::new(FAILS).run(&stocked(&[]), &script, budget, histories);
    }
}

/// Absence, confirmation, failures of one key and callers that want something newer, with all of it remembered.
#[test]
fn what_is_remembered_in_place_of_a_value_answers_nobody_after_a_change() {
    let options = [
        ("store", "false"),
        ("ttl", "2s"),
        ("keep", "1h"),
        ("negative_ttl", "5s"),
        ("answer_ttl", "5s"),
        ("unavailable_ttl", "1s"),
        ("entries_max", "50"),
    ];
    let budget = Budget { failures: 2, resigned: 1, waits: 1, ..NONE };
    let scripts: [(&[Act], u64); 4] = [
        (&[Lookup, LookupNew, Lookup], 5_000),
        (&[Put(KEY), LookupNew, Lookup], 70),
        (&[Lookup, Put(KEY), Lookup], 1_000),
        (&[Lookup, Remove(KEY), Lookup], 1_000),
    ];
    for (script, histories) in scripts {
        Exploration::new(ODD).run(&world(&options), script, budget, histories);
    }
    let with_a_store = [("ttl", "2s"), ("keep", "1h"), ("negative_ttl", "5s"), ("soft_deadline", "1s")];
    for (script, histories) in [([Lookup, LookupNew], 1_000), ([Lookup, Put(KEY)], 1_000)] {
        Exploration::new(ODD).quick().run(&stocked(&with_a_store), &script, budget, histories);
    }
}

/// Whoever asks after an invalidation gets nothing that was asked for before it, or gets it marked as stale.
#[test]
fn what_was_loaded_before_an_invalidation_is_not_served_after_it() {
    let options =
        [("store", "false"), ("stale_while_revalidate", "3s"), ("stale_if_error", "5s"), ("entries_max", "50")];
    let budget = Budget { failures: 1, waits: 2, ..NONE };
    for how in [Invalidate(Invalidation::Remove), Invalidate(Invalidation::Expire), Expire] {
        for script in [[Lookup, how, Lookup], [Put(KEY), how, Lookup], [how, Put(KEY), Lookup]] {
            let tagged = world(&options).tagged(|_| &[TAG]);
            Exploration::new(ODD).run(&tagged, &script, budget, 10);
        }
        for script in [[Lookup, how, Lookup], [Put(KEY), how, Get]] {
            Exploration::new(FAILS).quick().run(&stocked(&[]), &script, budget, 10);
        }
    }
}

/// On one store with other processes: no load of anybody undoes a change that it has not seen, no late payment a newer
/// one, and what was invalidated elsewhere is served to nobody once that was learnt.
#[test]
fn what_other_processes_change_is_not_undone() {
    let outage = Budget { failures: 1, waits: 1, visits: 1, ..NONE };
    let failure = Budget { failures: 1, ..NONE };
    let scripts: [&[Act]; 8] = [
        &[Lookup, TheyPut],
        &[Lookup, TheyRemove, Get],
        &[Put(KEY), TheyPut],
        &[Remove(KEY), TheyPut],
        &[TheyLoad, Put(KEY), TheyWrite],
        &[TheyLoad, Remove(KEY), TheyWrite],
        &[TheyLoad, Clear, TheyWrite],
        &[Lookup, Put(KEY), TheyRemove],
    ];
    for script in scripts {
        let budget = if script.len() > 2 { failure } else { outage };
        let logged = world(&[("store_log", "true"), ("stale_if_error", "5s")]);
        Exploration::new(FAILS).quick().run(&logged, script, budget, 10);
    }
    for how in [Invalidation::Remove, Invalidation::Expire] {
        let scripts: [&[Act]; 6] = [
            &[LookupNew, TheyInvalidate(how), Lookup],
            &[Put(KEY), TheyInvalidate(how), Get],
            &[LookupNew, TheyInvalidate(how), Told, Lookup],
            &[Put(KEY), Invalidate(how), Get],
            &[Invalidate(how), Put(KEY), Get],
            &[TheyLoad, Invalidate(how), TheyWrite, Get],
        ];
        for script in scripts {
            let mut tagged = world(&[("store_log", "true"), ("stale_if_error", "5s")]).tagged(|_| &[TAG]);
            tagged.stock(KEY, Duration::from_secs(1));
            Exploration::new(FAILS).quick().run(&tagged, script, if script.len() > 3 { failure } else { outage }, 10);
        }
    }
}
