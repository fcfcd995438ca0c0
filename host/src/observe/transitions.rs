//! What a circuit went through between two looks at it. It knows nothing of who looks, or how often.
//!
//! The counts of trips and recoveries say how often it opened and closed, however long ago the last look was. Half-open
//! lies before each recovery, and between two waits in open; of several probes that failed between two looks, one shows.

use tideover_core::breaker::{BreakerReport, Mode, State};

/// A step of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// `again`: a probe failed, and another wait has begun.
    Opened {
        again: bool,
    },
    HalfOpened,
    /// `recovered`: its probes succeeded. Otherwise an operator has closed it, or the engine was replaced.
    Closed {
        recovered: bool,
    },
}

/// All steps from the look `before` to the look `now`, in their order; `None` before the first look.
pub(super) fn between(before: Option<&BreakerReport>, now: &BreakerReport) -> Vec<Transition> {
    let mut walk = Walk { at: Place::Closed, steps: Vec::new() };
    let (mut trips, mut recoveries) = (now.stats.trips, now.stats.recoveries);
    let mut since = None;
    if let Some(before) = before {
        walk.at = Place::of(before.state);
        match (trips.checked_sub(before.stats.trips), recoveries.checked_sub(before.stats.recoveries)) {
            (Some(more_trips), Some(more_recoveries)) => {
                (trips, recoveries, since) = (more_trips, more_recoveries, Some(before.since));
            }
            // It counts from the beginning: it is another one.
            _ => walk.to(Place::Closed, false),
        }
    }
    let follows_rules = now.mode == Mode::Automatic && before.is_none_or(|before| before.mode == Mode::Automatic);
    if follows_rules {
        walk.counted(trips, recoveries);
    }
    let target = Place::of(now.state);
    if walk.steps.is_empty()
        && walk.at == Place::Open
        && target == Place::Open
        && since != Some(now.since)
        && follows_rules
    {
        walk.to(Place::HalfOpen, false);
    }
    walk.to(target, false);
    walk.steps
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Closed,
    Open,
    HalfOpen,
}

impl Place {
    const fn of(state: State) -> Self {
        match state {
            State::Closed => Self::Closed,
            State::Open { .. } => Self::Open,
            State::HalfOpen => Self::HalfOpen,
        }
    }
}

struct Walk {
    at: Place,
    steps: Vec<Transition>,
}

impl Walk {
    /// Opens and recovers so many times, by turns. Where two trips follow each other, an operator has closed it between.
    fn counted(&mut self, mut trips: u64, mut recoveries: u64) {
        while trips + recoveries > 0 {
            match self.at {
                Place::Closed if trips > 0 => {
                    trips -= 1;
                    self.to(Place::Open, false);
                }
                Place::Open | Place::HalfOpen if recoveries > 0 => {
                    recoveries -= 1;
                    self.to(Place::HalfOpen, false);
                    self.to(Place::Closed, true);
                }
                Place::Open | Place::HalfOpen => self.to(Place::Closed, false),
                // A recovery of what had not been seen open: it opened and closed in one go.
                Place::Closed => self.to(Place::Open, false),
            }
        }
    }

    fn to(&mut self, place: Place, recovered: bool) {
        match (self.at, place) {
            (from, place) if from == place => return,
            (from, Place::Open) => self.steps.push(Transition::Opened { again: from == Place::HalfOpen }),
            (Place::Open, Place::HalfOpen) => self.steps.push(Transition::HalfOpened),
            (_, Place::HalfOpen) => {
                self.steps.extend([Transition::Opened { again: false }, Transition::HalfOpened]);
            }
            (_, Place::Closed) => self.steps.push(Transition::Closed { recovered }),
        }
        self.at = place;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tideover_core::Instant;
    use tideover_core::breaker::{Breaker, BreakerPolicy, Verdict};

    use super::*;

    const fn closed(recovered: bool) -> Transition {
        Transition::Closed { recovered }
    }

    const fn opened(again: bool) -> Transition {
        Transition::Opened { again }
    }

    fn breaker() -> Breaker {
        let policy = BreakerPolicy { consecutive_failures: 1, open_jitter: 0, ..BreakerPolicy::default() };
        Breaker::new(policy, 1)
    }

    /// A call at that second with that verdict, if the circuit lets it pass.
    fn call(breaker: &mut Breaker, second: u64, verdict: Verdict) {
        let now = Instant::ZERO + Duration::from_secs(second);
        if let Ok(permit) = breaker.try_acquire(now, now) {
            breaker.report(permit, verdict, Duration::ZERO, now);
        }
    }

    #[test]
    fn however_rarely_one_looks_no_trip_and_no_recovery_is_lost() {
        let mut breaker = breaker();
        let before = breaker.look();
        for (second, verdict) in [(0, Verdict::Failure), (2, Verdict::Success), (3, Verdict::Failure)] {
            call(&mut breaker, second, verdict);
        }
        let steps = [opened(false), Transition::HalfOpened, closed(true), opened(false)];
        assert_eq!(between(Some(&before), &breaker.look()), steps);
        assert_eq!(between(None, &breaker.look()), steps);
        assert!(between(Some(&breaker.look()), &breaker.look()).is_empty());
    }

    #[test]
    fn a_probe_that_failed_shows_although_nobody_looked_at_it() {
        let mut breaker = breaker();
        call(&mut breaker, 0, Verdict::Failure);
        let before = breaker.look();
        call(&mut breaker, 2, Verdict::Failure);
        assert_eq!(between(Some(&before), &breaker.look()), [Transition::HalfOpened, opened(true)]);
    }

    #[test]
    fn an_operator_closes_without_a_recovery() {
        let mut breaker = breaker();
        call(&mut breaker, 0, Verdict::Failure);
        let open = breaker.look();
        breaker.reset(Instant::ZERO);
        assert_eq!(between(Some(&open), &breaker.look()), [closed(false)]);
        let reset = breaker.look();
        breaker.set_mode(Mode::ForcedOpen, Instant::ZERO);
        assert_eq!(between(Some(&reset), &breaker.look()), [opened(false)]);
        breaker.set_mode(Mode::MetricsOnly, Instant::ZERO);
        let metrics_only = breaker.look();
        call(&mut breaker, 5, Verdict::Failure);
        assert!(between(Some(&metrics_only), &breaker.look()).is_empty(), "it only would have opened");
    }

    #[test]
    fn another_breaker_in_its_place_begins_closed() {
        let mut old = breaker();
        call(&mut old, 0, Verdict::Failure);
        assert_eq!(between(Some(&old.look()), &breaker().look()), [closed(false)]);
    }

    /// Whatever happens, and whenever one looks, the steps lead from each look to the next.
    #[test]
    fn steps_lead_from_look_to_look() {
        for history in 0..3_u32.pow(9) {
            let mut breaker = breaker();
            let (mut before, mut at, mut tripped) = (breaker.look(), Place::Closed, 0);
            for second in 0..9 {
                match history / 3_u32.pow(second) % 3 {
                    0 => call(&mut breaker, 2 * u64::from(second), Verdict::Success),
                    1 => call(&mut breaker, 2 * u64::from(second), Verdict::Failure),
                    _ => {
                        let now = breaker.look();
                        for step in between(Some(&before), &now) {
                            tripped += u64::from(step == opened(false));
                            at = match (at, step) {
                                (Place::Closed, Transition::Opened { again: false })
                                | (Place::HalfOpen, Transition::Opened { again: true }) => Place::Open,
                                (Place::Open, Transition::HalfOpened) => Place::HalfOpen,
                                (Place::HalfOpen, Transition::Closed { recovered: true }) => Place::Closed,
                                impossible => panic!("{impossible:?} in {history}"),
                            };
                        }
                        assert_eq!((at, tripped), (Place::of(now.state), now.stats.trips), "{history}");
                        before = now;
                    }
                }
            }
        }
    }
}
