//! Every short history of one breaker and up to three callers, beside a model of what must be seen from outside.

use super::*;
use alloc::vec::Vec;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);
const SLOW: Duration = SECOND;
/// Longer than all waits and leases of these histories together.
const AGES: Duration = Duration::from_secs(100_000);
const CALLERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    /// A caller whose hands are empty asks for a call of a second.
    Ask,
    /// Who has held a permit for the longest (shortest) time reports.
    Oldest(Verdict, Duration),
    Newest(Verdict, Duration),
    /// Time goes on to the next moment that the breaker has promised, or to the last nanosecond before it.
    Promised,
    JustBefore,
    Switch(Mode),
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    permit: Permit,
    life: u32,
    /// For probes: when the lease ends.
    probe_until: Option<Instant>,
}

/// The breaker, and all that its surroundings know of it.
#[derive(Debug, Clone)]
struct World {
    breaker: Breaker,
    now: Instant,
    held: [Option<Held>; CALLERS],
    /// Counts the states that it has been in.
    life: u32,
    since: Instant,
    promised: Option<Instant>,
    /// Of the present half-open.
    succeeded: u32,
    slow: u32,
    reopened: u32,
    /// The calls that were counted while closed, the newest in the lowest bit: all, failures, slow ones.
    seen: [u32; 3],
    stats: BreakerStats,
}

impl World {
    fn new(policy: BreakerPolicy) -> Self {
        Self {
            breaker: Breaker::new(policy, 1),
            now: Instant::ZERO,
            held: [None; CALLERS],
            life: 0,
            since: Instant::ZERO,
            promised: None,
            succeeded: 0,
            slow: 0,
            reopened: 0,
            seen: [0; 3],
            stats: BreakerStats::default(),
        }
    }

    fn oldest(&self) -> Option<Held> {
        self.held.iter().flatten().next().copied()
    }

    fn newest(&self) -> Option<Held> {
        self.held.iter().flatten().last().copied().filter(|_| self.held[1].is_some())
    }

    fn next_moment(&self) -> Option<Instant> {
        let probe = self.breaker.next_probe(self.now);
        let promised = self.promised.filter(|until| *until != Instant::NEVER);
        probe.into_iter().chain(promised).filter(|moment| *moment > self.now).min()
    }

    /// Whether there is anything to do.
    fn can(&self, act: Act) -> bool {
        match act {
            Act::Ask => self.held[CALLERS - 1].is_none(),
            Act::Oldest(..) => self.oldest().is_some(),
            Act::Newest(..) => self.newest().is_some(),
            Act::Promised => self.next_moment().is_some(),
            Act::JustBefore => self.next_moment().is_some_and(|moment| moment - self.now > NANO),
            Act::Switch(mode) => mode != self.breaker.mode(),
            Act::Reset => true,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Ask => self.ask(),
            Act::Oldest(verdict, took) => self.oldest().into_iter().for_each(|held| self.report(held, verdict, took)),
            Act::Newest(verdict, took) => self.newest().into_iter().for_each(|held| self.report(held, verdict, took)),
            Act::Promised => self.now = self.next_moment().expect("a moment"),
            Act::JustBefore => {
                let moment = self.next_moment().expect("a moment");
                self.now = self.now + ((moment - self.now) - NANO);
            }
            Act::Switch(mode) => {
                self.breaker.set_mode(mode, self.now);
                self.begin_life();
                self.reopened = 0;
            }
            Act::Reset => {
                self.breaker.reset(self.now);
                self.begin_life();
                self.reopened = 0;
            }
        }
    }

    fn begin_life(&mut self) {
        (self.life, self.since, self.promised) = (self.life + 1, self.now, None);
        (self.succeeded, self.slow, self.seen) = (0, 0, [0; 3]);
    }

    fn ask(&mut self) {
        let before = self.breaker.state_by_rules();
        let answer = self.breaker.try_acquire(self.now, self.now + SECOND);
        if let State::Open { until } = before
            && self.breaker.state_by_rules() == State::HalfOpen
        {
            assert!(self.now >= until, "half-open before the wait was over");
            self.begin_life();
        }
        match answer {
            Ok(permit) => self.admitted(permit),
            Err(NotUntil(until)) => self.refused(until),
        }
    }

    fn admitted(&mut self, permit: Permit) {
        let shadow = self.breaker.stats().would_refuse > self.stats.would_refuse;
        self.stats.would_refuse += u64::from(shadow);
        assert_ne!(self.breaker.mode(), Mode::ForcedOpen);
        assert!(!shadow || self.breaker.mode() == Mode::MetricsOnly);
        let in_half_open = self.breaker.state_by_rules() == State::HalfOpen;
        let probe_until = (in_half_open && !shadow).then(|| self.now + SECOND + LEASE_GRACE);
        let free = self.held.iter_mut().find(|hand| hand.is_none()).expect("empty hands");
        *free = Some(Held { permit, life: self.life, probe_until });
    }

    fn refused(&mut self, until: Instant) {
        self.stats.refused += 1;
        self.promised = Some(until);
        let ask = |now: Instant| self.breaker.clone().try_acquire(now, now);
        assert!(until > self.now, "refused until a moment that has come");
        match self.breaker.mode() {
            Mode::ForcedOpen => assert_eq!(until, Instant::NEVER),
            Mode::Automatic => {
                assert_eq!(ask(self.now), Err(NotUntil(until)));
                assert_eq!(ask(Instant::from_nanos(until.as_nanos() - 1)), Err(NotUntil(until)));
                assert!(ask(until).is_ok(), "refused at the promised moment");
            }
            mode => panic!("{mode:?} refuses nobody"),
        }
    }

    fn report(&mut self, held: Held, verdict: Verdict, took: Duration) {
        let place = self.held.iter().position(|hand| hand.is_some_and(|hand| hand.permit == held.permit));
        self.held[place.expect("held")] = None;
        self.held.sort_by_key(Option::is_none);
        let before = self.breaker.clone();
        self.breaker.report(held.permit, verdict, took, self.now);
        let lost = held.probe_until.is_some_and(|until| self.now >= until);
        if held.life != self.life || lost || self.breaker.mode() == Mode::Disabled {
            return assert_eq!(self.breaker, before, "a late report changed something");
        }
        match verdict {
            Verdict::None => assert_eq!(self.breaker.stats(), before.stats()),
            Verdict::Success => self.stats.successes += 1,
            Verdict::Failure => self.stats.failures += 1,
        }
        if verdict != Verdict::None {
            self.stats.slow += u64::from(took >= SLOW);
            self.judged(held, &before, verdict, took);
        }
    }

    /// What the report of a live permit must have led to.
    fn judged(&mut self, held: Held, before: &Breaker, verdict: Verdict, took: Duration) {
        let policy = self.breaker.policy;
        let after = self.breaker.state_by_rules();
        match (before.state_by_rules(), held.probe_until) {
            (State::HalfOpen, Some(_)) => {
                self.slow += u32::from(took >= SLOW);
                let slow =
                    policy.slow_call_rate > 0 && self.slow * 100 >= policy.probes * u32::from(policy.slow_call_rate);
                if verdict == Verdict::Failure || slow {
                    self.reopened += 1;
                    return self.opened();
                }
                self.succeeded += 1;
                if self.succeeded == policy.probes {
                    self.stats.recoveries += 1;
                    assert_eq!(after, State::Closed);
                    return self.begin_life();
                }
                assert_eq!(after, State::HalfOpen);
            }
            (State::Closed, _) if self.is_tripped(verdict, took) => {
                self.stats.trips += 1;
                self.reopened = if before.is_recovering(self.now) { self.reopened + 1 } else { 0 };
                self.opened();
            }
            (state, _) => assert_eq!(after, state),
        }
    }

    /// Counts a call of the closed circuit and applies the rules to the list of all such calls.
    fn is_tripped(&mut self, verdict: Verdict, took: Duration) -> bool {
        let policy = self.breaker.policy;
        let bits = [true, verdict == Verdict::Failure, took >= SLOW].map(u32::from);
        self.seen = core::array::from_fn(|kind| self.seen[kind] << 1 | bits[kind]);
        let window = if policy.window_calls == 0 { u32::MAX } else { (1 << policy.window_calls) - 1 };
        let [calls, failures, slow] = self.seen.map(|calls| (calls & window).count_ones());
        let reaches = |some: u32, rate: u8| rate > 0 && some * 100 >= calls * u32::from(rate);
        let by_rate = reaches(failures, policy.failure_rate) || reaches(slow, policy.slow_call_rate);
        let in_a_row = self.seen[1].trailing_ones() >= policy.consecutive_failures;
        self.breaker.mode().follows_rules() && (in_a_row || (by_rate && calls >= policy.minimum_calls))
    }

    fn opened(&mut self) {
        self.begin_life();
        let until = self.now + SECOND * 2_u32.pow(self.reopened).min(4);
        assert_eq!(self.breaker.state_by_rules(), State::Open { until });
        assert!(self.breaker.mode.follows_rules());
    }

    /// What holds at every moment.
    fn check(&self) {
        let out = |held: &&Held| held.life == self.life && held.probe_until.is_some_and(|until| self.now < until);
        if self.breaker.state_by_rules() == State::HalfOpen {
            let out = self.held.iter().flatten().filter(out).count() as u32;
            assert!(out + self.succeeded <= self.breaker.policy.probes, "too many probes are out");
        }
        assert_eq!(self.breaker.stats(), self.stats);
        assert_eq!(self.breaker.state_since(), self.since);
        if let Some(probe) = self.breaker.next_probe(self.now) {
            assert!(self.breaker.clone().ask_rules(probe, probe).is_ok(), "no probe when it was promised");
        }
        let (mut later, then) = (self.breaker.clone(), self.now + AGES);
        let stuck = later.try_acquire(then, then).is_err();
        assert_eq!(stuck, self.breaker.mode() == Mode::ForcedOpen, "stuck");
    }
}

/// Follows `world` through every sequence of `steps` acts and returns how many there are.
fn explore(world: &World, acts: &[Act], steps: u32) -> u64 {
    world.check();
    if steps == 0 {
        return 1;
    }
    let mut histories = 0;
    for act in acts.iter().filter(|act| world.can(**act)) {
        let mut next = world.clone();
        next.act(*act);
        histories += explore(&next, acts, steps - 1);
    }
    histories
}

fn policy() -> BreakerPolicy {
    BreakerPolicy {
        consecutive_failures: 1,
        failure_rate: 0,
        open_for: SECOND,
        open_for_max: SECOND * 4,
        open_jitter: 0,
        ..BreakerPolicy::default()
    }
}

/// One call failed, another is under way, and the wait is over.
fn opened(policy: BreakerPolicy) -> World {
    let mut world = World::new(policy);
    let acts = [Act::Ask, Act::Ask, oldest(FAILED), Act::Promised];
    acts.into_iter().for_each(|act| world.act(act));
    world
}

const OK: (Verdict, Duration) = (Verdict::Success, Duration::ZERO);
const LATE: (Verdict, Duration) = (Verdict::Success, SLOW);
const FAILED: (Verdict, Duration) = (Verdict::Failure, Duration::ZERO);
const CANCELLED: (Verdict, Duration) = (Verdict::None, Duration::ZERO);

const fn oldest((verdict, took): (Verdict, Duration)) -> Act {
    Act::Oldest(verdict, took)
}

const fn newest((verdict, took): (Verdict, Duration)) -> Act {
    Act::Newest(verdict, took)
}

/// Half-open: ten steps of three callers from the end of a wait, a late report outstanding, with one to three probes,
/// with and without recovery after them, and under metrics-only: ten million histories.
#[test]
fn every_short_history_drains() {
    let reports = [oldest(OK), oldest(FAILED), oldest(CANCELLED), newest(LATE), newest(FAILED), newest(CANCELLED)];
    let acts = [&[Act::Ask, Act::Promised, Act::JustBefore], &reports[..]].concat();
    let (rules, metrics) = (Mode::Automatic, Mode::MetricsOnly);
    let histories: Vec<u64> =
        [(rules, 1, 0), (rules, 2, 0), (rules, 3, 0), (rules, 1, 1), (rules, 2, 7), (metrics, 1, 0)]
            .into_iter()
            .map(|(mode, probes, recovery)| {
                let recovery_for = SECOND * recovery;
                let slow = BreakerPolicy { slow_call_rate: 60, slow_call: SLOW, minimum_calls: 3, ..policy() };
                explore(&opened(BreakerPolicy { mode, probes, recovery_for, ..slow }), &acts, 10)
            })
            .collect();
    assert_eq!(histories, [1_170_113, 1_028_169, 757_144, 1_142_294, 1_023_531, 4_472_444]);
}

/// Overrides: eight steps of three callers from the end of a wait, among them every switch of mode and a
/// reset: eleven million histories.
#[test]
fn every_short_history_with_overrides_drains() {
    let switches = Mode::ALL.map(Act::Switch);
    let acts = [Act::Ask, Act::Promised, Act::Reset, oldest(OK), oldest(FAILED), newest(CANCELLED)];
    let recovering = BreakerPolicy { recovery_for: SECOND * 2, ..policy() };
    let histories = explore(&opened(recovering), &[&acts[..], &switches[..]].concat(), 8);
    assert_eq!(histories, 10_869_037);
}

/// Opening: thirteen steps of three callers from the start, all three rules on, over a window of four calls: a million
/// histories.
#[test]
fn every_short_history_opens_by_the_rules() {
    let rules = BreakerPolicy {
        consecutive_failures: 2,
        failure_rate: 50,
        slow_call_rate: 75,
        slow_call: SLOW,
        minimum_calls: 4,
        window_calls: 4,
        ..policy()
    };
    let acts = [Act::Ask, Act::Promised, oldest(OK), oldest(LATE), oldest(FAILED), newest((Verdict::Failure, SLOW))];
    let histories = explore(&World::new(rules), &acts, 13);
    assert_eq!(histories, 965_103);
}
