//! A seeded walk through everything that can happen to a cache with a few keys.

use core::time::Duration;

use tideover_core::entropy::Entropy;
use tideover_core::stamp::{Version, Written};
use tideover_core::{
    Answer, Call, Class, Command, Entry, Event, FlightId, Found, Instant, Invalidation, Launch, Leased, Left,
    LoadFailure, Loaded, LoaderId, Lookup, News, Note, Outcome, Policy, Sharing, Step, StoreFailure, Tag, Value,
    Windows,
};

const TAG: Tag = Tag::named("tag");

/// A value of which nothing matters but whether it bears a tag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tagged(pub(crate) bool);

impl Value for Tagged {
    fn tags(&self) -> &[Tag] {
        if self.0 { &[TAG] } else { &[] }
    }
}

/// A policy under which everything happens.
pub(crate) fn policy() -> Policy {
    let mut policy = Policy::default();
    let options = [
        ("store", "true"),
        ("explain", "true"),
        ("ttl", "10s"),
        ("stale_while_revalidate", "5s"),
        ("stale_if_error", "30s"),
        ("keep", "60s"),
        ("load_attempts", "3"),
        ("ttl_jitter", "20"),
        ("negative_ttl", "5s"),
        ("unavailable_ttl", "2s"),
        ("leader_age_max", "20s"),
        ("private_for", "3s"),
        ("journal_max", "2"),
        ("soft_deadline", "1s"),
        ("store_breaker_failures", "2"),
        ("load_breaker_failures", "3"),
        ("loads_max", "2"),
        ("load_queue_max", "2"),
        ("refresh_ahead", "70"),
        ("early_refresh", "100"),
    ];
    for (name, value) in options {
        policy.set(name, value).expect("an option");
    }
    policy
}

/// What walks: a cache, or several that are compared.
pub(crate) trait Subject {
    fn policy(&self) -> &Policy;
    fn lookup(&mut self, key: &u8, call: Call<'_>, now: Instant) -> Lookup<u8, Tagged>;
    fn command(&mut self, command: Command<u8, Tagged>, now: Instant) -> Lookup<u8, Tagged>;
    fn resume(&mut self, flight: FlightId, event: Event<Tagged>, now: Instant) -> Step<u8, Tagged>;
    fn leave(&mut self, flight: FlightId) -> Left;
    fn expire(&mut self, flight: FlightId, deadline: Instant, now: Instant) -> Answer<Tagged>;
    fn maintain(&mut self, now: Instant) -> Option<FlightId>;
    fn learn(&mut self, news: News, now: Instant);
    /// Looks at what was answered at once.
    fn answered(&mut self, _outcome: &Outcome<Tagged>) {}
    /// Looks at what `flight` lands with.
    fn landed(&mut self, _flight: FlightId, _outcome: &Outcome<Tagged>) {}
}

/// A walk through everything that can happen to a few keys.
pub(crate) struct Walk<S> {
    pub(crate) subject: S,
    pub(crate) waited: u32,
    now: Instant,
    dice: Entropy,
    flying: Vec<(FlightId, Step<u8, Tagged>)>,
    callers: Vec<(FlightId, Instant, Instant)>,
    /// The newest number in the log.
    logged: u64,
}

impl<S: Subject> Walk<S> {
    pub(crate) fn new(subject: S, seed: u64) -> Self {
        let dice = Entropy::from_seed(seed);
        Self { subject, waited: 0, now: Instant::ZERO, dice, flying: Vec::new(), callers: Vec::new(), logged: 0 }
    }

    fn pick(&mut self, of: u64) -> u64 {
        self.dice.bits() % of
    }

    fn launch(&mut self, flight: FlightId, step: Step<u8, Tagged>) {
        match step {
            Step::Done { next } => self.follow(next),
            Step::Wait => self.waited += 1,
            Step::Land { ref outcome, next, .. } => {
                self.subject.landed(flight, outcome);
                self.callers.retain(|(waits_for, ..)| *waits_for != flight);
                self.flying.push((flight, step));
                self.follow(next);
            }
            step => self.flying.push((flight, step)),
        }
    }

    fn follow(&mut self, next: Option<FlightId>) {
        if let Some(next) = next {
            let step = self.subject.resume(next, Event::Launched, self.now);
            self.launch(next, step);
        }
    }

    pub(crate) fn step(&mut self) {
        let key = self.pick(3) as u8;
        match self.pick(24) {
            0..=6 => self.lookup(key),
            7 => self.command(Command::Remove { key }),
            8 => {
                let value = Tagged(self.pick(2) == 0);
                self.command(Command::Put { key, value, windows: None });
            }
            9 => self.command(Command::Expire { key }),
            10 => self.command(Command::Invalidate { tag: TAG, how: Invalidation::Remove }),
            11 => self.command(Command::Invalidate { tag: TAG, how: Invalidation::Expire }),
            12 if self.pick(8) == 0 => self.command(Command::Clear),
            13 => {
                let next = self.subject.maintain(self.now);
                self.follow(next);
            }
            14 => self.leave(),
            17 if self.pick(2) == 0 => self.learn(),
            15..=16 => self.now = self.now + Duration::from_millis(self.dice.bits() % 3_000),
            _ if self.flying.is_empty() => {}
            _ => {
                let place = self.pick(self.flying.len() as u64) as usize;
                let (flight, step) = self.flying.swap_remove(place);
                let event = self.event(&step);
                let step = self.subject.resume(flight, event, self.now);
                self.launch(flight, step);
            }
        }
    }

    fn lookup(&mut self, key: u8) {
        let max_age = if self.pick(5) == 0 { Some(Duration::from_secs(self.pick(12))) } else { None };
        let loader = LoaderId(self.pick(3));
        let call = Call { read_only: self.pick(4) == 0, max_age, loader, ..Call::default() };
        let lookup = self.subject.lookup(&key, call, self.now);
        match lookup.answer {
            Answer::Now(outcome) => self.subject.answered(&outcome),
            Answer::Pending { flight, until, deadline } => self.callers.push((flight, until, deadline)),
            Answer::Refused(_) => {}
        }
        if let Some(Launch { flight, step }) = lookup.launch {
            self.launch(flight, step);
        }
    }

    /// A caller goes away, or has waited long enough.
    fn leave(&mut self) {
        if self.callers.is_empty() {
            return;
        }
        let place = self.pick(self.callers.len() as u64) as usize;
        let (flight, until, deadline) = self.callers.swap_remove(place);
        if self.now >= until {
            if let Answer::Pending { flight, until, deadline } = self.subject.expire(flight, deadline, self.now) {
                self.callers.push((flight, until, deadline));
            }
        } else if self.subject.leave(flight) == Left::Abandon {
            self.flying.retain(|(flown, _)| *flown != flight);
            let step = self.subject.resume(flight, Event::Abandoned, self.now);
            self.launch(flight, step);
        }
    }

    fn command(&mut self, command: Command<u8, Tagged>) {
        let lookup = self.subject.command(command, self.now);
        if let Some(Launch { flight, step }) = lookup.launch {
            self.launch(flight, step);
        }
    }

    fn event(&mut self, step: &Step<u8, Tagged>) -> Event<Tagged> {
        if self.pick(20) == 0 {
            return if self.pick(2) == 0 { Event::Abandoned } else { Event::Resigned };
        }
        let result = match self.pick(7) {
            0 => Err(StoreFailure::Unavailable),
            1 => Err(StoreFailure::Rejected),
            2 => Err(StoreFailure::Overloaded),
            _ => Ok(()),
        };
        match step {
            Step::ReadStore { .. } => Event::StoreRead(match (result, self.pick(3)) {
                (Err(failure), _) => Err(failure),
                (_, 0) => Ok(Found { version: self.version(), ..Found::NOTHING }),
                _ => {
                    let windows = Windows { ttl: Some(Duration::from_secs(10)), ..self.subject.policy().windows() };
                    let age = Duration::from_millis(self.pick(40_000));
                    let tagged = Tagged(self.pick(3) == 0);
                    let entry = Some(Entry { age, ..Entry::new(tagged, windows) });
                    Ok(Found { entry, version: self.version(), born: self.pick(self.logged + 1) })
                }
            }),
            Step::Load { .. } => Event::Loaded(match self.pick(12) {
                0 => Err(Class::Answer.into()),
                1 => Err(LoadFailure { class: Class::Unavailable, retry_after: Some(Duration::from_millis(300)) }),
                2 => Err(Class::Panicked.into()),
                3 => Err(Class::Isolated.into()),
                4 => Ok(Loaded::absent(None, &[])),
                5 => Ok(Loaded::NotModified { age: Duration::ZERO, windows: None }),
                roll => {
                    let sharing = match roll {
                        6 => Sharing::Private,
                        7 => Sharing::Share,
                        _ => Sharing::Store,
                    };
                    let value = Tagged(self.pick(2) == 0);
                    Ok(Loaded::Value { value, age: Duration::from_secs(1), windows: None, sharing })
                }
            }),
            Step::Sleep { until } => {
                self.now = self.now.max(*until);
                Event::Slept
            }
            Step::Wait => unreachable!("nobody flies it"),
            Step::Land { .. } | Step::Done { .. } => Event::Landed,
            Step::WriteStore { .. } => Event::StoreWritten(result.map(|()| self.written())),
            Step::RemoveStore { .. } => Event::StoreRemoved(result.map(|()| self.written())),
            Step::ClearStore { .. } => Event::StoreCleared(result),
            Step::InvalidateStore { .. } => Event::StoreInvalidated(result),
            Step::AcquireLease { .. } => {
                let free_in = Duration::from_millis(self.pick(3_000));
                let elsewhere = Leased::Elsewhere { free_in };
                let answer = if self.pick(3) == 0 { elsewhere } else { Leased::Held };
                Event::LeaseAnswered(result.map(|()| answer))
            }
            Step::AwaitLease { until, .. } => {
                self.now = self.now.max(*until);
                Event::LeaseAwaited
            }
        }
    }

    /// A version as this machine or another one might have written it.
    fn version(&mut self) -> Option<Version> {
        (self.pick(3) > 0).then(|| Version { writer: self.pick(2), number: self.pick(9) })
    }

    fn written(&mut self) -> Written {
        if self.pick(4) == 0 { Written::Overtaken } else { Written::Kept }
    }

    /// Something from the log: as a rule newer than what is known, of this machine or of another one.
    fn learn(&mut self) {
        let note = match self.pick(6) {
            0 => Note::Cleared,
            1 => Note::Unknown,
            roll if roll < 4 => Note::Invalidated(TAG, Invalidation::Remove),
            _ => Note::Invalidated(TAG, Invalidation::Expire),
        };
        self.logged += self.pick(3);
        let (number, own) = (self.logged, self.pick(4) == 0);
        let ago = Duration::from_millis(self.pick(3_000));
        self.subject.learn(News { number, ago, own, note }, self.now);
    }
}
