//! Why a call was answered as it was: the inputs of its flight, what each was decided under, and what followed.
//!
//! A [`Story`] holds no key and no value. What other flights have done to the machine meanwhile appears in it as
//! [`Conditions`], so that a machine with nothing but the policy and the story takes the same steps again:
//! [`replay`] shows it, and says where it does not hold.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::settle::verdict;
use super::{Fence, First, Kind, Machine, Remembered, Shards, Stage, Work};
use crate::breaker::{Breaker, NotUntil, Verdict};
use crate::budget::{Budget, BudgetPolicy};
use crate::entropy::Entropy;
use crate::entry::Entry;
use crate::flight::Purpose;
use crate::journal::{Change, Doubts, Journal};
use crate::latency::Latency;
use crate::limit::{Limit, LimitPolicy};
use crate::memory::Memory;
use crate::outdated::Outdated;
use crate::policy::Policy;
use crate::step::{
    Answer, Call, Event, FlightId, Found, Launch, Loaded, LoaderId, Lookup, Outcome, Served, Step, Tier,
};
use crate::storage::{Alloc, Linked, Map, Profile};
use crate::tags;
use crate::time::Instant;
use crate::value::{Invalidation, Tag, Value};

/// Moments that a story holds at most; what comes after them is not told.
pub const MOMENTS_MAX: usize = 64;

/// Who holds a key's slot in a replay, if it is not the flight itself.
const SOMEBODY: FlightId = FlightId(u64::MAX);
/// The tag that stands for all tags of a value.
const SOME_TAG: &[Tag] = &[Tag(0)];

/// A value of which nothing is known but whether it bears tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Whether it bears any.
    pub tagged: bool,
}

impl Erased {
    fn of<V: Value>(value: &V) -> Self {
        Self { tagged: !value.tags().is_empty() }
    }
}

impl Value for Erased {
    fn tags(&self) -> &[Tag] {
        if self.tagged { SOME_TAG } else { &[] }
    }
}

/// Everything that led to an answer, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Story {
    /// The moments, the lookup first.
    pub moments: Vec<Moment>,
    /// More happened than is told.
    pub cut: bool,
}

/// One input of the machine, and what followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// What came in.
    pub input: Input,
    /// What the rest of the machine was like.
    pub under: Conditions,
    /// What went out.
    pub then: Then,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A lookup.
    Lookup {
        /// Without a loader.
        read_only: bool,
        /// What is older did not do.
        max_age: Option<Duration>,
        /// The caller's own deadline.
        deadline: Option<Instant>,
    },
    /// What became of a step.
    Event(Event<Erased>),
}

/// What went out. `next` of a step is left out: it is about another flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Then {
    /// The answer of a lookup that was answered at once.
    pub answer: Option<Outcome<Erased>>,
    /// The next step of the flight.
    pub step: Option<Step<(), Erased>>,
}

/// What a replayed story led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// What its caller was answered at once.
    pub answer: Option<Outcome<Erased>>,
    /// What its flight landed with.
    pub landed: Option<Outcome<Erased>>,
}

/// What a decision depends on beside the policy, the flight and the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// What memory held, and until when it was not to be refreshed again.
    pub memory: Option<(Entry<Erased>, Instant)>,
    /// What was remembered in place of a value.
    pub remembered: Option<Entry<Remembered>>,
    /// Until when the breaker of the store refused.
    pub store_refused: Option<NotUntil>,
    /// Until when the breaker of the loader refused.
    pub load_refused: Option<NotUntil>,
    /// What the limit of loads said.
    pub crowd: Crowd,
    /// The budget of retries was spent: of the store's, of the loader's.
    pub spent: (bool, bool),
    /// What loads took, smoothed.
    pub load_time: Option<Duration>,
    /// A change of the key was owed to the store.
    pub owed: bool,
    /// A clear was owed to the store.
    pub clear_owed: bool,
    /// The fallback was not to be trusted.
    pub fallback_doubted: bool,
    /// A load of the key was under way already, or there was no room for another flight.
    pub no_launch: bool,
    /// Another flight was writing the key.
    pub written: bool,
    /// Something had won over the flight.
    pub fence: Option<Fence>,
    /// Somebody waited for the flight.
    pub waited_for: bool,
    /// What was older did for nobody.
    pub max_age: Option<Duration>,
    /// A tag of the value was invalidated after the load had been asked for.
    pub overtaken: bool,
    /// Somebody had joined after an invalidation.
    pub joined_late: bool,
    /// How what the store had stood to the invalidations.
    pub found: tags::Verdict,
    /// The store is to be asked once more, since another process has changed what it had.
    pub asks_again: bool,
    /// What has become since of the stale value that was found on the way.
    pub previous: tags::Verdict,
    /// What was to be written had been invalidated.
    pub dead: bool,
    /// What was to be written bears a tag whose invalidation is owed to the store.
    pub tag_owed: bool,
    /// How far the store's log was known.
    pub position: u64,
    /// Writes to the shared store before.
    pub writes: u64,
    /// The state of the dice.
    pub dice: u64,
}

/// What the limit of loads says to one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crowd {
    /// It may load.
    None,
    /// It has to wait.
    Wait,
    /// There is no room to wait.
    Full,
}

/// A replay took another turn than the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diverged {
    /// At which moment.
    pub moment: usize,
    /// What the replay did instead.
    pub instead: Option<Box<Then>>,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the replay takes another turn at moment {}: {:?}", self.moment, self.instead)
    }
}

impl core::error::Error for Diverged {}

/// Plays `story` again on a machine that has nothing but `policy`, and says what it led to.
///
/// # Errors
///
/// [`Diverged`] at the first moment that goes otherwise, because the story belongs to another policy or was altered.
pub fn replay(policy: &Policy, story: &Story) -> Result<Replayed, Diverged> {
    let refused = Diverged { moment: 0, instead: None };
    let Ok(mut machine) = Machine::<(), Erased, Alloc>::new(policy.clone(), 0) else { return Err(refused) };
    let mut memory = machine.new_memory();
    let (mut flight, mut replayed) = (FlightId(0), Replayed::default());
    for (number, moment) in story.moments.iter().enumerate() {
        machine.bring_about(&mut memory, flight, moment);
        let then = match &moment.input {
            Input::Lookup { read_only, max_age, deadline } => {
                let call = Call { read_only: *read_only, max_age: *max_age, deadline: *deadline, ..Call::default() };
                let lookup = machine.lookup(&mut memory, &(), call, moment.at);
                flight = lookup.launch.as_ref().map_or(flight, |launch| launch.flight);
                Then::of_lookup(&lookup)
            }
            Input::Event(event) => Then::of_step(&machine.resume(&mut memory, flight, event.clone(), moment.at)),
        };
        if then != moment.then {
            return Err(Diverged { moment: number, instead: Some(Box::new(then)) });
        }
        if let Some(Step::Land { outcome, .. }) = then.step {
            replayed.landed = Some(outcome);
        }
        replayed.answer = replayed.answer.or(then.answer);
    }
    Ok(replayed)
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// The story of `flight`, if it is being told: to be asked for when the flight lands. Without a flight: that of the
    /// last lookup which was answered at once and asked for one.
    pub fn story(&mut self, flight: Option<FlightId>) -> Option<Story> {
        match flight {
            None => self.told.take(),
            Some(flight) => self.flights.get(flight)?.work.story.clone(),
        }
        .map(|story| *story)
    }

    /// The conditions under which something is about to be decided for `key`; without a flight, by a call with `loader`.
    pub(super) fn conditions(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        flight: Option<FlightId>,
        key: &K,
        event: Option<&Event<V>>,
        loader: LoaderId,
        now: Instant,
    ) -> Conditions {
        let held = shards.with(key, |memory| memory.peek(key, now).map(|entry| (entry, memory.refresh_after(key))));
        let remembered = self.remembered.peek(key, now);
        let flying = flight.and_then(|flight| self.flights.get(flight));
        let work = flying.map(|flight| &flight.work);
        let brought = match event {
            Some(Event::Loaded(Ok(Loaded::Value { value, .. }))) => Some(value),
            Some(Event::Loaded(Ok(Loaded::NotModified { .. }))) => {
                work.and_then(|work| work.offered.as_ref()).map(|entry| &entry.value)
            }
            _ => None,
        };
        let standing = |value: &V, born| self.tags.verdict(value.tags(), born);
        Conditions {
            memory: held.map(|(entry, refresh_after)| (entry.map(|value| Erased::of(&value)), refresh_after)),
            remembered,
            store_refused: self.store_refused(work, event, now),
            load_refused: self.loaders.refusal(work.map_or(loader, |work| work.loader), now),
            crowd: self.crowd(now),
            spent: (self.store_budget.balance(now) == 0, self.load_budget.balance(now) == 0),
            load_time: self.latency.mean(),
            owed: !self.journal.trusts(key),
            clear_owed: self.journal.owes_clear(),
            fallback_doubted: self.fallback_doubts.remain(),
            no_launch: flight.is_none()
                && (self.flights.is_current(key, Purpose::Load, now) || self.flights.admits().is_err()),
            written: self.writing.get(key).is_some_and(|slot| Some(slot.holder) != flight),
            fence: flying.and_then(|flight| flight.fence),
            waited_for: flight.is_some_and(|flight| self.flights.waiters(flight) > 0),
            max_age: work.and_then(|work| work.max_age),
            overtaken: work
                .zip(brought)
                .is_some_and(|(work, value)| standing(value, work.born) != tags::Verdict::Valid),
            joined_late: work.is_some_and(|work| work.joined > work.born),
            found: match event {
                Some(Event::StoreRead(Ok(Found { entry: Some(entry), born, .. }))) => {
                    match work.map(|work| &work.stage) {
                        Some(Stage::Reading(Tier::Fallback)) => self.fallback_verdict(key, entry, *born, now),
                        _ => self.standing(entry.value.tags(), *born),
                    }
                }
                _ => tags::Verdict::Valid,
            },
            asks_again: work.is_some_and(|work| work.asks_again),
            previous: work
                .and_then(|work| work.previous.as_ref())
                .map_or(tags::Verdict::Valid, |(entry, _, born)| self.tags.verdict(entry.value.tags(), *born)),
            dead: work.is_some_and(|work| self.is_dead(work)),
            tag_owed: flight.is_some_and(|flight| self.owes_a_tag(flight)),
            position: self.position,
            writes: self.writes,
            dice: self.entropy.state(),
        }
    }

    /// What the store's circuit will say once the flight has given back the permit that it has.
    fn store_refused(&self, work: Option<&Work<V>>, event: Option<&Event<V>>, now: Instant) -> Option<NotUntil> {
        let verdict = match event {
            Some(Event::LeaseAnswered(Ok(_)) | Event::StoreRead(Ok(_))) => Verdict::Success,
            Some(Event::LeaseAnswered(Err(failure)) | Event::StoreRead(Err(failure))) => verdict(*failure),
            _ => return self.store_breaker.refusal(now),
        };
        let mut breaker = self.store_breaker.clone();
        if let Some((work, permit)) = work.and_then(|work| Some((work, work.permit?))) {
            breaker.report(permit, verdict, now - work.asked_at, now);
        }
        breaker.refusal(now)
    }

    fn crowd(&self, now: Instant) -> Crowd {
        let mut limit = self.limit.clone();
        match limit.try_acquire(now) {
            Ok(slot) => {
                limit.release(slot, Duration::ZERO, Verdict::None, now);
                Crowd::None
            }
            Err(_) if limit.try_queue().is_ok() && self.waiting.len() < self.waiting.capacity() => Crowd::Wait,
            Err(_) => Crowd::Full,
        }
    }

    /// The key of `flight`, if its story is being told.
    pub(super) fn told_of(&self, flight: FlightId) -> Option<K> {
        self.flights.get(flight).filter(|flight| flight.work.story.is_some())?.key.clone()
    }

    /// A step of a flight whose story is being told.
    pub(super) fn told_resume(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        flight: FlightId,
        key: &K,
        event: Event<V>,
        now: Instant,
    ) -> Step<K, V> {
        let under = self.conditions(shards, Some(flight), key, Some(&event), LoaderId::UNNAMED, now);
        let input = Input::Event(event.erased());
        let step = self.go_on(shards, flight, event, now);
        self.tell(flight, Moment { at: now, input, under, then: Then::of_step(&step) });
        step
    }

    fn tell(&mut self, flight: FlightId, moment: Moment) {
        if let Some(story) = self.flights.get_mut(flight).and_then(|flight| flight.work.story.as_mut()) {
            story.add(moment);
        }
    }

    /// A lookup whose caller asked for the story.
    pub(super) fn told_lookup(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        call: Call<'_>,
        now: Instant,
    ) -> Lookup<K, V> {
        let under = self.conditions(shards, None, key, None, call.loader, now);
        let input = Input::Lookup { read_only: call.read_only, max_age: call.max_age, deadline: call.deadline };
        let lookup = self.look_up(shards, key, call, now);
        let then = Then::of_lookup(&lookup);
        let mut story = Box::new(Story::default());
        story.add(Moment { at: now, input, under, then });
        if let Some(Launch { flight, .. }) = &lookup.launch
            && let Some(flight) = self.flights.get_mut(*flight)
        {
            flight.work.story = Some(story.clone());
        }
        self.told = Some(story).filter(|_| matches!(lookup.answer, Answer::Now(_)));
        lookup
    }
}

impl Machine<(), Erased, Alloc> {
    /// Makes the rest of the machine what it was like at `moment`.
    fn bring_about(&mut self, memory: &mut Memory<(), Erased, Alloc>, flight: FlightId, moment: &Moment) {
        let (under, now) = (&moment.under, moment.at);
        memory.clear();
        if let Some((entry, refresh_after)) = &under.memory {
            if entry.doubted {
                self.newest += 1;
                memory.doubt_all(self.newest);
            }
            memory.insert((), entry.clone(), self.newest - u64::from(entry.doubted), now);
            memory.refresh_failed(&(), now, |_| *refresh_after - now);
        }
        self.remembered.clear();
        if let Some(held) = &under.remembered {
            self.remembered.insert((), held.clone(), 0, now);
        }
        self.store_breaker = Breaker::answering(self.policy.store_breaker_policy(), under.store_refused);
        let load_breaker = Breaker::answering(self.policy.load_breaker_policy(), under.load_refused);
        self.loaders.put(LoaderId::UNNAMED, load_breaker);
        self.bring_about_limits(under, now);
        self.journal = Journal::new(self.policy.journal_max as usize);
        if under.owed && !under.clear_owed {
            self.journal.record((), Change::remove(now));
        }
        if under.clear_owed {
            self.journal.void();
        }
        self.fallback_doubts = Doubts::default();
        if under.fallback_doubted {
            self.fallback_doubts.raise();
        }
        self.writing.retain(|(), slot| slot.holder == flight);
        if under.written {
            self.take_slot((), SOMEBODY);
        }
        if under.no_launch {
            let somebody = Work::new(Kind::Load);
            let _there_is_room = self.flights.open(Some(()), Some(Purpose::Load), somebody, now);
        }
        self.bring_about_log(under, now);
        self.writes = under.writes;
        self.entropy = Entropy::from_seed(under.dice);
        self.bring_about_in_flight(flight, moment);
    }

    fn bring_about_log(&mut self, under: &Conditions, now: Instant) {
        self.position = under.position;
        (self.noted, self.heard) = (tags::Invalidations::new(1), true);
        self.outdated = Outdated::new(1);
        match under.found {
            tags::Verdict::Valid => {}
            tags::Verdict::Doubted => self.outdated.missed(now),
            tags::Verdict::Expired(at) => self.noted.note(SOME_TAG[0], Invalidation::Expire, u64::MAX, at),
            tags::Verdict::Invalid => {
                self.noted.note_all(Invalidation::Remove, u64::MAX, now);
                self.outdated.note((), now);
            }
        }
        self.owed_tags.clear();
        if under.tag_owed {
            self.owed_tags.owe(SOME_TAG[0], Invalidation::Remove, now);
        }
        if under.overtaken || under.dead {
            self.newest += 1;
            self.tags.note_all(Invalidation::Remove, self.newest, now);
        }
    }

    fn bring_about_limits(&mut self, under: &Conditions, now: Instant) {
        let (max, queue_max) = match under.crowd {
            Crowd::None => (0, 0),
            Crowd::Wait => (1, 1),
            Crowd::Full => (1, 0),
        };
        self.limit = Limit::new(LimitPolicy { max, queue_max, ..LimitPolicy::default() });
        self.waiting = Linked::new(1);
        if under.crowd != Crowd::None {
            // Somebody has the only slot there is.
            let _ran_out_long_after_the_story = self.limit.try_acquire(now);
        }
        self.latency = Latency::new(1);
        under.load_time.into_iter().for_each(|took| self.latency.record(took));
        let budget = |spent| {
            let policy = BudgetPolicy { percent: u32::from(spent), minimum: 0, ..BudgetPolicy::default() };
            Budget::new(policy)
        };
        (self.store_budget, self.load_budget) = (budget(under.spent.0), budget(under.spent.1));
    }

    fn bring_about_in_flight(&mut self, flight: FlightId, moment: &Moment) {
        let under = &moment.under;

        let waiters = self.flights.waiters(flight);
        if under.waited_for && waiters == 0 {
            let _no_limit_is_near = self.flights.join(flight);
        } else if !under.waited_for && waiters > 0 {
            let _kept_or_not = self.flights.leave(flight);
        }
        let slot = Limit::new(LimitPolicy { max: 0, ..LimitPolicy::default() }).try_acquire(moment.at).ok();
        let Some(flight) = self.flights.get_mut(flight) else { return };
        if matches!(flight.work.stage, Stage::Waiting) && matches!(moment.input, Input::Event(Event::Launched)) {
            flight.work.stage = Stage::Ready(First::Load);
            (flight.work.slot, flight.work.place) = (slot, None);
        }
        flight.work.previous = flight.work.previous.take().and_then(|(entry, at, _)| {
            let judged = entry.aged(moment.at - at).judged(under.previous, moment.at)?;
            Some((judged, moment.at, u64::MAX))
        });
        flight.fence = under.fence;
        flight.work.asks_again = under.asks_again;
        flight.work.max_age = under.max_age;
        flight.work.joined = flight.work.born + u64::from(under.joined_late);
    }
}

impl Story {
    /// The story as bytes, to be carried elsewhere and replayed there by a build of the same version.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing plain data into a growing vector cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// The story in `bytes`; `None` if they hold none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((story, [])) => Some(story),
            _ => None,
        }
    }

    fn add(&mut self, moment: Moment) {
        if self.moments.len() < MOMENTS_MAX {
            self.moments.push(moment);
        } else {
            self.cut = true;
        }
    }
}

/// One line for each moment.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Moment { at, input, under, then } in &self.moments {
            write!(f, "{at:?} {input:?}")?;
            under.show(f)?;
            if let Some(answer) = &then.answer {
                write!(f, " -> {answer:?}")?;
            }
            if let Some(step) = &then.step {
                write!(f, " -> {step:?}")?;
            }
            f.write_str("\n")?;
        }
        if self.cut { f.write_str("and more\n") } else { Ok(()) }
    }
}

impl Conditions {
    /// Only what is out of the ordinary.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((entry, _)) = &self.memory {
            write!(f, ", in memory {:?} of {:?}", entry.age, entry.windows.ttl)?;
        }
        if let Some(held) = &self.remembered {
            write!(f, ", remembered {:?} for {:?}", held.value, held.age)?;
        }
        if let Some(NotUntil(until)) = self.store_refused {
            write!(f, ", store refused until {until:?}")?;
        }
        if let Some(NotUntil(until)) = self.load_refused {
            write!(f, ", loader refused until {until:?}")?;
        }
        if let Some(fence) = self.fence {
            write!(f, ", fenced by {fence:?}")?;
        }
        match self.crowd {
            Crowd::None => {}
            Crowd::Wait => f.write_str(", as many loads as allowed")?,
            Crowd::Full => f.write_str(", no room to wait for a load")?,
        }
        let flags = [
            (self.spent.0 || self.spent.1, "retry budget spent"),
            (self.owed, "owed to the store"),
            (self.clear_owed, "a clear is owed"),
            (self.fallback_doubted, "fallback in doubt"),
            (self.no_launch, "being loaded"),
            (self.written, "being written"),
            (self.overtaken, "a tag was invalidated"),
        ];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, what)| write!(f, ", {what}"))
    }
}

impl Then {
    fn of_lookup<K, V: Value>(lookup: &Lookup<K, V>) -> Self {
        let answer = match &lookup.answer {
            Answer::Now(outcome) => Some(outcome.erased()),
            Answer::Pending { .. } | Answer::Refused(_) => None,
        };
        let launched = lookup.launch.as_ref().and_then(|launch| Self::of_step(&launch.step).step);
        Self { answer, step: launched }
    }

    pub(super) fn of_step<K, V: Value>(step: &Step<K, V>) -> Self {
        let step = match step {
            &Step::ReadStore { tier, deadline, .. } => Step::ReadStore { tier, key: (), deadline },
            &Step::Load { attempt, deadline, ref previous, .. } => {
                Step::Load { key: (), attempt, deadline, previous: previous.as_ref().map(erased) }
            }
            &Step::Sleep { until } => Step::Sleep { until },
            Step::Wait => Step::Wait,
            &Step::Land { ref outcome, store, .. } => Step::Land { outcome: outcome.erased(), store, next: None },
            &Step::WriteStore { tier, ref entry, intent, deadline, .. } => {
                Step::WriteStore { tier, key: (), entry: erased(entry), intent, deadline }
            }
            &Step::RemoveStore { tier, intent, fence_for, deadline, .. } => {
                Step::RemoveStore { tier, key: (), intent, fence_for, deadline }
            }
            &Step::AcquireLease { ttl, hold_for, deadline, .. } => {
                Step::AcquireLease { key: (), ttl, hold_for, deadline }
            }
            &Step::AwaitLease { until, .. } => Step::AwaitLease { key: (), until },
            &Step::ClearStore { tier, deadline } => Step::ClearStore { tier, deadline },
            &Step::InvalidateStore { tag: _, how, made_ago, deadline } => {
                Step::InvalidateStore { tag: SOME_TAG[0], how, made_ago, deadline }
            }
            Step::Done { .. } => Step::Done { next: None },
        };
        Self { answer: None, step: Some(step) }
    }
}

fn erased<V: Value>(entry: &Entry<V>) -> Entry<Erased> {
    let &Entry { ref value, age, windows, load_time, doubted } = entry;
    Entry { value: Erased::of(value), age, windows, load_time, doubted }
}

impl<V: Value> Event<V> {
    pub(super) fn erased(&self) -> Event<Erased> {
        match self {
            Self::StoreRead(result) => {
                let found = |&Found { ref entry, version, born }: &Found<V>| Found {
                    entry: entry.as_ref().map(erased),
                    version,
                    born,
                };
                Event::StoreRead(result.as_ref().map(found).map_err(|e| *e))
            }
            Self::Loaded(result) => Event::Loaded(result.as_ref().map(Loaded::erased).map_err(|e| *e)),
            Self::Slept => Event::Slept,
            Self::Launched => Event::Launched,
            Self::Landed => Event::Landed,
            Self::StoreWritten(result) => Event::StoreWritten(*result),
            Self::StoreRemoved(result) => Event::StoreRemoved(*result),
            Self::StoreCleared(result) => Event::StoreCleared(*result),
            Self::StoreInvalidated(result) => Event::StoreInvalidated(*result),
            Self::LeaseAnswered(result) => Event::LeaseAnswered(*result),
            Self::LeaseAwaited => Event::LeaseAwaited,
            Self::Resigned => Event::Resigned,
            Self::Abandoned => Event::Abandoned,
        }
    }
}

impl<V: Value> Loaded<V> {
    fn erased(&self) -> Loaded<Erased> {
        match self {
            Self::Value { value, age, windows, sharing } => {
                Loaded::Value { value: Erased::of(value), age: *age, windows: *windows, sharing: *sharing }
            }
            Self::NotModified { age, windows } => Loaded::NotModified { age: *age, windows: *windows },
            Self::Absent { ttl, tags } => Loaded::Absent { ttl: *ttl, tags: *tags },
        }
    }
}

impl<V: Value> Outcome<V> {
    fn erased(&self) -> Outcome<Erased> {
        let served = |served: &Served<V>| {
            let &Served { ref value, age, ttl, stale, source } = served;
            Served { value: Erased::of(value), age, ttl, stale, source }
        };
        match self {
            Self::Served(value) => Outcome::Served(served(value)),
            Self::Private(value) => Outcome::Private(served(value)),
            Self::Absent(absence) => Outcome::Absent(*absence),
            Self::Settled(settled) => Outcome::Settled(*settled),
            Self::Failed(failure) => Outcome::Failed(*failure),
            Self::Again => Outcome::Again,
        }
    }
}
