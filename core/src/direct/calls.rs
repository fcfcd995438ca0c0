//! The operations of callers: asked of the store, or answered in its place.

use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::cursor::{Place, page_of_here, page_of_store};
use super::fallback::Fallback;
use super::journal::{Journal, State};
use super::walk::Walk;
use super::words::{Answer, Fate, Fault, Key, Octets, Operation, Remaining, Reply, Request, Unanswered, When};
use super::{Direct, Event, Heard, Pass, Purpose, Step, Work, WorkId, ends};
use crate::breaker::Verdict;
use crate::pattern::Pattern;
use crate::step::{Source, StoreUse};
use crate::time::Instant;

/// An operation under way.
pub(super) struct Call<V> {
    operation: Operation<V>,
    began: Instant,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    /// It waits for what is owed to be paid.
    Waiting,
    /// The store is asked, by the operation with that number.
    Asked(Pass, u64),
    /// Keys are removed by pattern.
    Walking(Pass, Walk),
}

/// Whether what the store is owed of an operation's keys has been paid.
enum Settled {
    Yes,
    /// It is not going to be in time.
    No,
    NotYet(Instant),
}

impl<V: Octets> Call<V> {
    /// Whether something is owed that the operation needs to be true in the store.
    fn is_owed(&self, journal: &Journal<V>) -> bool {
        if journal.is_empty() {
            return false;
        }
        match &self.operation {
            Operation::Plain(Request::Ping) => false,
            Operation::Plain(Request::Scan { .. }) | Operation::RemoveMatching { .. } | Operation::Clear => true,
            Operation::Plain(request) => request.keys().into_iter().any(|key| journal.owes(key)),
        }
    }

    /// Whether some of that is not paid before a wait is over.
    fn waits(&self, journal: &Journal<V>, now: Instant) -> bool {
        match &self.operation {
            Operation::Plain(Request::Scan { .. }) | Operation::RemoveMatching { .. } | Operation::Clear => {
                journal.any_waits(now)
            }
            Operation::Plain(request) => request.keys().into_iter().any(|key| journal.waits(key, now)),
        }
    }

    /// Half of its time is for waiting.
    fn patience(&self) -> Instant {
        self.began + (self.deadline - self.began) / 2
    }
}

impl<V: Octets> Direct<V> {
    /// An operation begins. The driver has seen to it that the store can do what the operation
    /// [needs](Operation::needs).
    pub fn begin(&mut self, operation: Operation<V>, now: Instant) -> (WorkId, Step<V>) {
        let work = self.new_work();
        if let Err(refused) = self.check(&operation) {
            return (work, Step::Done(Err(refused)));
        }
        let deadline = match &operation {
            Operation::Plain(request) => self.answer_by(request, now),
            Operation::RemoveMatching { .. } | Operation::Clear => self.write_by(now),
        };
        let call = Call { operation, began: now, deadline, stage: Stage::Waiting };
        if !self.has_store {
            return (work, self.answer_instead(&call, Fate::Skipped, now));
        }
        if !call.is_owed(self.fallback.journal()) {
            // Before what is owed: of a circuit that lets one pass, it may be this one.
            let step = self.ask_for(work, call, now);
            if self.owed() > 0 {
                self.start_paying(now);
            }
            return (work, step);
        }
        self.start_paying(now);
        // A circuit that is not closed has its probe to make first, for which nobody waits.
        let settled = match self.settled(&call, now) {
            Settled::NotYet(_) if !self.is_circuit_closed() => Settled::No,
            settled => settled,
        };
        (work, self.after_waiting(work, call, &settled, now))
    }

    fn check(&self, operation: &Operation<V>) -> Result<(), Unanswered> {
        if self.is_closed {
            return Err(Unanswered::Closed);
        }
        let checked = match operation {
            Operation::Plain(Request::Scan { cursor, .. }) if Place::of(cursor).is_none() => {
                return Err(Unanswered::Cursor);
            }
            Operation::Plain(Request::Scan { pattern, .. }) | Operation::RemoveMatching { pattern } => {
                self.policy.check_key(pattern)
            }
            Operation::Plain(request) => {
                let values = || request.values().into_iter();
                let mut keys = request.keys().into_iter();
                keys.try_for_each(|key| self.policy.check_key(key))
                    .and_then(|()| values().try_for_each(|value| self.policy.check_value(value.as_ref().len())))
            }
            Operation::Clear => Ok(()),
        };
        checked.map_err(Unanswered::Refused)
    }

    fn settled(&self, call: &Call<V>, now: Instant) -> Settled {
        let journal = self.fallback.journal();
        if !call.is_owed(journal) {
            return Settled::Yes;
        }
        let until = call.patience();
        if !self.is_paying() || call.waits(journal, now) || until <= now { Settled::No } else { Settled::NotYet(until) }
    }

    fn after_waiting(&mut self, work: WorkId, call: Call<V>, settled: &Settled, now: Instant) -> Step<V> {
        match settled {
            Settled::Yes => self.ask_for(work, call, now),
            Settled::No => self.answer_instead(&call, Fate::Skipped, now),
            Settled::NotYet(until) => {
                self.works.insert(work, Work::Call(call));
                Step::Wait { until: *until }
            }
        }
    }

    /// Asks the store, if its circuit lets the call pass.
    fn ask_for(&mut self, work: WorkId, call: Call<V>, now: Instant) -> Step<V> {
        let (walk, request) = match &call.operation {
            Operation::Plain(request) => (None, of_store(request)),
            Operation::RemoveMatching { pattern } => walk(Key::clone(pattern)),
            Operation::Clear => walk("*".into()),
        };
        let deadline = if walk.is_some() { self.answer_by(&request, now) } else { call.deadline };
        let Some(pass) = self.pass(deadline, now) else { return self.answer_instead(&call, Fate::Skipped, now) };
        let stage = match walk {
            Some(walk) => Stage::Walking(pass, walk),
            // What was paid while it waited is older than what it finds.
            None => Stage::Asked(pass, self.fallback.begin()),
        };
        self.ask_of_store(work, Call { stage, ..call }, request, deadline, now)
    }

    fn ask_of_store(
        &mut self,
        work: WorkId,
        call: Call<V>,
        request: Request<V>,
        deadline: Instant,
        now: Instant,
    ) -> Step<V> {
        let purpose = Purpose::Called(call.operation.name());
        self.works.insert(work, Work::Call(call));
        let with_end = match &request {
            Request::Get { key } | Request::Increment { key, .. } => {
                self.policy.fallback && !self.fallback.knows_end(key, now)
            }
            _ => false,
        };
        Step::Ask { request, with_end, purpose, deadline }
    }

    pub(super) fn resume_call(&mut self, work: WorkId, mut call: Call<V>, event: Event<V>, now: Instant) -> Step<V> {
        match (mem::replace(&mut call.stage, Stage::Waiting), event) {
            (Stage::Waiting, Event::Waited) => {
                let settled = self.settled(&call, now);
                self.after_waiting(work, call, &settled, now)
            }
            (Stage::Asked(pass, number), Event::Answered(answered)) => {
                self.judge(pass, answered.as_ref().err().copied(), Fault::verdict, now);
                match answered {
                    Ok(heard) => {
                        let reply = self.fallback.seen(&call, heard, number, now);
                        self.answered(reply, Source::Store)
                    }
                    Err(fault) => self.failed(&call, fault, now),
                }
            }
            (Stage::Walking(pass, walk), Event::Answered(answered)) => {
                self.judge(pass, answered.as_ref().err().copied(), Fault::verdict, now);
                match answered {
                    Ok(heard) => self.walk_on(work, call, walk, heard.reply, now),
                    Err(fault) => self.failed(&call, fault, now),
                }
            }
            // That is no answer to its step.
            (stage, _) => self.abandon_call(Call { stage, ..call }, now),
        }
    }

    fn walk_on(&mut self, work: WorkId, call: Call<V>, mut walk: Walk, reply: Reply<V>, now: Instant) -> Step<V> {
        let Some(request) = walk.next(reply) else {
            self.fallback.mirror_sweep(&Pattern::new(&walk.pattern), now);
            let is_counted = matches!(call.operation, Operation::RemoveMatching { .. });
            return self.answered(if is_counted { Reply::Count(walk.removed) } else { Reply::Done }, Source::Store);
        };
        // Each page has deadlines of its own.
        let deadline = self.answer_by(&request, now);
        let Some(pass) = self.pass(deadline, now) else { return self.answer_instead(&call, Fate::Skipped, now) };
        self.ask_of_store(work, Call { stage: Stage::Walking(pass, walk), ..call }, request, deadline, now)
    }

    pub(super) fn abandon_call(&mut self, call: Call<V>, now: Instant) -> Step<V> {
        if let Stage::Asked(pass, _) | Stage::Walking(pass, _) = call.stage {
            self.report(pass, Verdict::None, now);
        }
        Step::Over
    }
}

/// What the store is asked for a caller.
fn of_store<V: Octets>(request: &Request<V>) -> Request<V> {
    match request {
        Request::Scan { pattern, cursor, count } => {
            let cursor = Place::of(cursor).map(|place| place.in_store()).unwrap_or_default();
            Request::Scan { pattern: Key::clone(pattern), cursor, count: (*count).max(1) }
        }
        other => other.clone(),
    }
}

fn walk<V>(pattern: Key) -> (Option<Walk>, Request<V>) {
    let (walk, request) = Walk::begin(pattern);
    (Some(walk), request)
}

/// Answers.
impl<V: Octets> Direct<V> {
    fn failed(&mut self, call: &Call<V>, fault: Fault, now: Instant) -> Step<V> {
        match fault.fate() {
            None => Step::Done(Err(Unanswered::ByStore)),
            Some(fate) => self.answer_instead(call, fate, now),
        }
    }

    /// What stands in for the store answers.
    fn answer_instead(&mut self, call: &Call<V>, fate: Fate, now: Instant) -> Step<V> {
        if self.has_store && !self.policy.fallback {
            let store = if fate == Fate::Skipped { StoreUse::Skipped } else { StoreUse::Failed };
            return Step::Done(Err(Unanswered::Away(store)));
        }
        match self.fallback.instead(call, fate, now) {
            Ok(reply) => self.answered(reply, if self.has_store { Source::Fallback } else { Source::Memory }),
            Err(unanswered) => {
                self.counts.journal_full += u64::from(matches!(unanswered, Unanswered::JournalFull { .. }));
                self.counts.unknown += u64::from(unanswered == Unanswered::OutcomeUnknown);
                Step::Done(Err(unanswered))
            }
        }
    }

    fn answered(&mut self, reply: Reply<V>, source: Source) -> Step<V> {
        self.counts.answers += 1;
        self.counts.fallback += u64::from(source == Source::Fallback);
        Step::Done(Ok(Answer { reply, source }))
    }
}

/// Each operation, on what stands in for the store.
impl<V: Octets> Fallback<V> {
    /// Keeps what the operation with that number has seen in the store, and says what the caller is told.
    fn seen(&mut self, call: &Call<V>, heard: Heard<V>, number: u64, now: Instant) -> Reply<V> {
        let Heard { reply, left } = heard;
        let Operation::Plain(request) = &call.operation else { return reply };
        let ends = |ttl: Option<Duration>| ends(ttl, call.began);
        match (request, &reply) {
            (Request::Get { key }, Reply::Value(value)) => self.mirror_read(key, value.as_ref(), left, number, now),
            (Request::GetMany { keys }, Reply::Values(values)) => {
                let read = keys.iter().zip(values);
                read.for_each(|(key, value)| self.mirror_read(key, value.as_ref(), None, number, now));
            }
            (Request::Put { key, value, ttl, .. }, Reply::Held(true)) => {
                self.mirror(key, State::ending(value.clone(), ends(*ttl)), number, now);
            }
            (Request::PutMany { entries, ttl }, Reply::Done) => {
                for (key, value) in entries {
                    self.mirror(key, State::ending(value.clone(), ends(*ttl)), number, now);
                }
            }
            (Request::Take { key } | Request::Remove { key }, _)
            | (Request::Exists { key } | Request::Put { key, when: When::Present, .. }, Reply::Held(false)) => {
                self.mirror(key, State::ABSENT, number, now);
            }
            (Request::RemoveMany { keys }, Reply::Count(_)) => {
                keys.iter().for_each(|key| self.mirror(key, State::ABSENT, number, now));
            }
            (Request::Increment { key, by, ttl }, Reply::Sum(sum)) => {
                let left = match left {
                    // That was answered before the number was created.
                    Some(Remaining::NoSuchKey) if sum == by => Some(end_in(*ttl, true, call.began, now)),
                    Some(Remaining::NoSuchKey) => None,
                    left => left,
                };
                self.mirror_sum(key, *sum, left, number, now);
            }
            (Request::SetTtl { key, ttl }, Reply::Held(held)) => {
                self.mirror_end(key, end_in(*ttl, *held, call.began, now), number, now);
            }
            (Request::Remaining { key }, Reply::Remaining(left)) => self.mirror_end(key, *left, number, now),
            _ => {}
        }
        if let Reply::Page(page) = reply { Reply::Page(page_of_store(page)) } else { reply }
    }

    /// The answer while the store is away, to an operation of which this has become.
    fn instead(&mut self, call: &Call<V>, fate: Fate, now: Instant) -> Result<Reply<V>, Unanswered> {
        let ends = |ttl: &Option<Duration>| ends(*ttl, call.began);
        let request = match &call.operation {
            Operation::Plain(request) => request,
            Operation::RemoveMatching { pattern } => return self.remove_matching(pattern, now).map(Reply::Count),
            Operation::Clear => {
                self.clear();
                return Ok(Reply::Done);
            }
        };
        Ok(match request {
            Request::Get { key } => Reply::Value(self.read(key, now)),
            Request::GetMany { keys } => Reply::Values(keys.iter().map(|key| self.read(key, now)).collect()),
            Request::Exists { key } => Reply::Held(self.read(key, now).is_some()),
            Request::Put { key, value, ttl, when } => {
                let held = self.write(key, value.clone(), ends(ttl), *when, now)?;
                if !held && fate == Fate::Unknown {
                    // That it has been done would not be "nothing was changed".
                    return Err(Unanswered::OutcomeUnknown);
                }
                Reply::Held(held)
            }
            Request::PutMany { entries, ttl } => {
                self.has_room(entries.iter().map(|(key, _)| key))?;
                for (key, value) in entries {
                    self.write(key, value.clone(), ends(ttl), When::Always, now)?;
                }
                Reply::Done
            }
            Request::Take { key } => Reply::Value(self.remove(key, now)?),
            Request::Remove { key } => Reply::Held(self.remove(key, now)?.is_some()),
            Request::RemoveMany { keys } => {
                self.has_room(keys.iter())?;
                let removed = keys.iter().map(|key| self.remove(key, now)).collect::<Result<Vec<_>, _>>()?;
                Reply::Count(removed.into_iter().flatten().count() as u64)
            }
            Request::Increment { .. } if fate == Fate::Unknown => return Err(Unanswered::OutcomeUnknown),
            Request::Increment { key, by, ttl } => Reply::Sum(self.add(key, *by, ends(ttl), now)?),
            Request::SetTtl { key, ttl } => Reply::Held(self.expire(key, ends(ttl), now)?),
            Request::Remaining { key } => Reply::Remaining(self.remaining(key, now)),
            Request::Scan { pattern, cursor, count } => {
                let from = Place::of(cursor);
                let after = from.as_ref().and_then(Place::here);
                Reply::Page(page_of_here(self.page(&Pattern::new(pattern), after, (*count).max(1), now)))
            }
            Request::Ping => Reply::Done,
        })
    }

    fn has_room<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<(), Unanswered> {
        if self.has_room_for(keys.map(|key| &**key)) { Ok(()) } else { Err(self.full()) }
    }
}

/// What is left of a key whose end was set by an operation that began then.
fn end_in(ttl: Option<Duration>, is_there: bool, began: Instant, now: Instant) -> Remaining {
    match ttl {
        _ if !is_there => Remaining::NoSuchKey,
        Some(ttl) => Remaining::Left((began + ttl) - now),
        None => Remaining::Forever,
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::policy::Policy;

    const NOW: Instant = Instant::ZERO;

    fn asked(direct: &mut Direct<Vec<u8>>, request: Request<Vec<u8>>) -> WorkId {
        let (work, step) = direct.begin(request.into(), NOW);
        assert!(matches!(step, Step::Ask { .. }));
        work
    }

    fn answered(step: Step<Vec<u8>>) -> (Reply<Vec<u8>>, Source) {
        let Step::Done(Ok(Answer { reply, source })) = step else { panic!("it is answered") };
        (reply, source)
    }

    #[test]
    fn a_number_that_was_not_there_when_its_end_was_asked_is_there_once_it_is_counted() {
        let mut direct = Direct::new(&Policy::default(), true, 1);
        let minute = Duration::from_secs(60);
        let count = Request::Increment { key: "n".into(), by: 3, ttl: Some(minute) };
        let work = asked(&mut direct, count);
        let heard = Heard { reply: Reply::Sum(3), left: Some(Remaining::NoSuchKey) };
        answered(direct.resume(work, Event::Answered(Ok(heard)), NOW));

        let work = asked(&mut direct, Request::Remaining { key: "n".into() });
        let left = answered(direct.resume(work, Event::Answered(Err(Fault::Unavailable)), NOW));
        assert!(left == (Reply::Remaining(Remaining::Left(minute)), Source::Fallback));
    }

    #[test]
    fn what_is_no_answer_to_a_step_gives_the_permit_back() {
        let policy = Policy { store_breaker_failures: 1, store_breaker_probes: 1, ..Policy::default() };
        let mut direct = Direct::new(&policy, true, 1);
        let get = || Request::Get { key: "k".into() };
        let work = asked(&mut direct, get());
        answered(direct.resume(work, Event::Answered(Err(Fault::TimedOut)), NOW));
        let later = NOW + Duration::from_secs(60);
        let (work, step) = direct.begin(get().into(), later);
        assert!(matches!(step, Step::Ask { .. }), "the one probe");
        assert!(matches!(direct.resume(work, Event::Waited, later), Step::Over));
        assert!(matches!(direct.begin(get().into(), later).1, Step::Ask { .. }), "there is room for another");
    }
}
