//! Paying what is owed to the store when it is back.
//!
//! It is paid in rounds, one at a time: patterns go first, then the keys, the oldest change first, several at once. What
//! fails waits, and the round goes on with the rest: a store may be away for some keys alone. Only if none of many is
//! answered, somebody else's keys are asked about, and what they say counts for the circuit. What must not be done
//! twice is sent to who has just answered.

use core::mem;

use super::debt;
use super::journal::Due;
use super::walk::Walk;
use super::words::{Fate, Fault, Key, Octets, Reply, Request, When};
use super::{Direct, Heard, Launch, Pass, Purpose, Step, Work, WorkId, left};
use crate::breaker::{State, Verdict};
use crate::pattern::Pattern;
use crate::time::Instant;

/// Keys that are paid for at once.
const AT_ONCE: usize = 64;

/// Keys of each kind that a probe asks about.
const PROBED: usize = 8;

/// What tries at paying have come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Tried {
    /// The store has answered, whatever.
    answered: bool,
    /// It has not, at least once.
    failed: bool,
    /// The circuit has not let it pass.
    skipped: bool,
}

impl Tried {
    const ANSWERED: Self = Self { answered: true, failed: false, skipped: false };
    const FAILED: Self = Self { answered: false, failed: true, skipped: false };
    const SKIPPED: Self = Self { answered: false, failed: false, skipped: true };

    const fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered | other.answered,
            failed: self.failed | other.failed,
            skipped: self.skipped | other.skipped,
        }
    }

    const fn is_in_vain(self) -> bool {
        self.failed && !self.answered
    }
}

/// What a round tries at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// What has not failed before.
    FirstTries,
    /// A pattern that has.
    Sweep,
    /// Keys that have.
    Retries,
}

pub(super) struct Round {
    began: Instant,
    /// All first tries up to that number have been made.
    after: u64,
    may_sweep: bool,
    batch: Batch,
    /// Works of the batch that are not over.
    under_way: usize,
    tried: Tried,
    probe: Option<Probe>,
}

/// The question whether the store answers at all: about keys wherever they lie, as it may be away for some of them, and in
/// general. One answer will do.
struct Probe {
    number: u64,
    pass: Pass,
    /// Those who have not answered.
    unanswered: usize,
    /// What they have answered so far says this of the store.
    verdict: Verdict,
}

impl Round {
    fn begin(now: Instant) -> Self {
        Self {
            began: now,
            after: 0,
            may_sweep: true,
            batch: Batch::FirstTries,
            under_way: 0,
            tried: Tried::default(),
            probe: None,
        }
    }
}

/// What is owed and is being paid.
pub(super) enum Owed<V> {
    Key(Payment<V>),
    Sweep { number: u64, pass: Pass, walk: Walk },
}

/// A step of what a key owes, on its way.
pub(super) struct Payment<V> {
    key: Key,
    step: debt::Step<V>,
    stage: Stage,
    pass: Pass,
    /// The store has answered about this key in this round.
    answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Who does not answer this is not sent a count, as that could not be sent again.
    Asking,
    Making,
    /// What was there for a while has ended by itself, though callers were told that it is there for longer.
    PuttingAnew,
}

/// The round.
impl<V: Octets> Direct<V> {
    /// Has everything paid that is due, and the circuit probed, if that is not open.
    pub(super) fn start_paying(&mut self, now: Instant) {
        let may_pass = !matches!(self.circuit.state(), State::Open { until } if until > now);
        let is_due = || !self.is_circuit_closed() || self.fallback.journal().is_due(now);
        if self.has_store && may_pass && self.round.is_none() && is_due() {
            self.round = Some(Round::begin(now));
            if self.is_circuit_closed() {
                self.next_batch(now);
            } else {
                self.begin_probe(now);
            }
        }
    }

    fn end_round(&mut self) {
        self.round = None;
        self.has_paid = true;
    }

    /// The next batch, until one is under way or the round is over.
    fn next_batch(&mut self, now: Instant) {
        while let Some(round) = self.round.as_mut().filter(|round| round.under_way == 0 && round.probe.is_none()) {
            let due = self.fallback.journal_mut().due(round.after, AT_ONCE, round.began, round.may_sweep);
            match due {
                Due::Nothing => return self.end_round(),
                Due::Sweep { number, pattern, is_first_try } => {
                    round.batch = if is_first_try { Batch::FirstTries } else { Batch::Sweep };
                    self.launch_sweep(number, pattern, now);
                }
                Due::FirstTries(last, keys) => {
                    (round.batch, round.after) = (Batch::FirstTries, last);
                    keys.into_iter().for_each(|key| self.launch_payment(key, now));
                }
                Due::Retries(keys) => {
                    round.batch = Batch::Retries;
                    keys.into_iter().for_each(|key| self.launch_payment(key, now));
                }
            }
            self.after_batch(now);
        }
    }

    /// If nothing of the batch is under way, draws the conclusions.
    fn after_batch(&mut self, now: Instant) {
        let Some(round) = self.round.as_mut().filter(|round| round.under_way == 0) else { return };
        let (tried, batch) = (mem::take(&mut round.tried), round.batch);
        self.has_paid = true;
        // Those that have failed before do not hold up the next round.
        if tried.skipped || batch == Batch::Retries && tried.is_in_vain() {
            self.end_round();
        } else if batch == Batch::FirstTries && tried.is_in_vain() {
            self.begin_probe(now);
        }
    }

    fn tried(&mut self, tried: Tried) {
        if let Some(round) = &mut self.round {
            round.tried = round.tried.and(tried);
        }
        self.has_paid |= tried.answered;
    }

    /// One that was launched is over.
    fn owed_over(&mut self, tried: Tried, now: Instant) -> Step<V> {
        self.tried(tried);
        if let Some(round) = &mut self.round {
            round.under_way -= 1;
            if round.under_way == 0 {
                self.after_batch(now);
                self.next_batch(now);
            }
        }
        Step::Over
    }

    fn ask(&mut self, work: WorkId, flies: Work<V>, request: Request<V>, purpose: Purpose, now: Instant) -> Step<V> {
        let deadline = self.answer_by(&request, now);
        self.works.insert(work, flies);
        Step::Ask { request, with_end: false, purpose, deadline }
    }

    fn launch(&mut self, flies: Work<V>, request: Request<V>, purpose: Purpose, now: Instant) {
        let work = self.new_work();
        let step = self.ask(work, flies, request, purpose, now);
        self.launches.push(Launch { work, step });
    }

    fn launch_owed(&mut self, owed: Owed<V>, request: Request<V>, now: Instant) {
        if let Some(round) = &mut self.round {
            round.under_way += 1;
        }
        self.launch(Work::Owed(owed), request, Purpose::Owed, now);
    }

    fn ask_owed(&mut self, work: WorkId, owed: Owed<V>, request: Request<V>, now: Instant) -> Step<V> {
        self.ask(work, Work::Owed(owed), request, Purpose::Owed, now)
    }

    pub(super) fn resume_owed(
        &mut self,
        work: WorkId,
        owed: Owed<V>,
        answered: Result<Heard<V>, Fault>,
        now: Instant,
    ) -> Step<V> {
        let answered = answered.map(|heard| heard.reply);
        match owed {
            Owed::Key(payment) => self.resume_payment(work, payment, answered, now),
            Owed::Sweep { number, pass, walk } => self.resume_sweep(work, number, pass, walk, answered, now),
        }
    }

    /// Whoever was to pay that has been ended.
    pub(super) fn abandon_owed(&mut self, owed: Owed<V>, now: Instant) -> Step<V> {
        match owed {
            Owed::Key(Payment { key, step, stage, pass, .. }) => {
                self.report(pass, Verdict::None, now);
                self.not_done(&key, &step, stage, Fate::Unknown);
            }
            Owed::Sweep { pass, .. } => self.report(pass, Verdict::None, now),
        }
        self.owed_over(Tried::SKIPPED, now)
    }
}

/// Probes.
impl<V: Octets> Direct<V> {
    fn begin_probe(&mut self, now: Instant) {
        let Some(pass) = self.pass(self.read_by(now), now) else { return self.end_round() };
        let keys = self.fallback.some_keys(PROBED);
        let number = self.new_work().0;
        let probe = Probe { number, pass, unanswered: keys.len() + 1, verdict: Verdict::None };
        if let Some(round) = &mut self.round {
            round.probe = Some(probe);
        }
        let asked = keys.into_iter().map(|key| Request::Exists { key }).chain([Request::Ping]);
        for request in asked {
            self.launch(Work::Probe(number), request, Purpose::Probe, now);
        }
    }

    /// One of those that a probe asked has answered, or failed.
    pub(super) fn probed(&mut self, number: u64, fault: Option<Fault>, now: Instant) -> Step<V> {
        let Some(round) = &mut self.round else { return Step::Over };
        let Some(mut probe) = round.probe.take_if(|probe| probe.number == number) else { return Step::Over };
        let hears = matches!(fault, None | Some(Fault::Refused));
        probe.unanswered -= 1;
        if let Some(Verdict::Failure) = fault.map(Fault::verdict) {
            probe.verdict = Verdict::Failure;
        }
        if !hears && probe.unanswered > 0 {
            round.probe = Some(probe);
            return Step::Over;
        }
        self.counts.failures += u64::from(!hears);
        self.report(probe.pass, if hears { Verdict::Success } else { probe.verdict }, now);
        if !hears {
            self.end_round();
        } else if self.is_circuit_closed() {
            self.next_batch(now);
        } else {
            self.begin_probe(now);
        }
        Step::Over
    }
}

/// Patterns.
impl<V: Octets> Direct<V> {
    fn launch_sweep(&mut self, number: u64, pattern: Key, now: Instant) {
        let Some(pass) = self.pass(self.read_by(now), now) else { return self.tried(Tried::SKIPPED) };
        let (walk, request) = Walk::begin(pattern);
        self.launch_owed(Owed::Sweep { number, pass, walk }, request, now);
    }

    fn resume_sweep(
        &mut self,
        work: WorkId,
        number: u64,
        pass: Pass,
        mut walk: Walk,
        answered: Result<Reply<V>, Fault>,
        now: Instant,
    ) -> Step<V> {
        self.judge(pass, answered.as_ref().err().copied(), Fault::verdict_of_owed, now);
        match answered {
            Ok(reply) => {
                if let Some(request) = walk.next(reply) {
                    let Some(pass) = self.pass(self.answer_by(&request, now), now) else {
                        return self.owed_over(Tried::SKIPPED, now);
                    };
                    return self.ask_owed(work, Owed::Sweep { number, pass, walk }, request, now);
                }
                self.fallback.mirror_sweep(&Pattern::new(&walk.pattern), now);
                self.counts.replayed += 1;
            }
            Err(fault) if fault.fate().is_some() => {
                let waits = self.waits();
                self.fallback.journal_mut().sweep_failed(number, now, waits);
                if let Some(round) = &mut self.round {
                    round.may_sweep = false;
                }
                return self.owed_over(Tried::FAILED, now);
            }
            Err(_refused) => self.counts.given_up += 1,
        }
        self.fallback.journal_mut().swept(number);
        self.owed_over(Tried::ANSWERED, now)
    }
}

/// Keys.
impl<V: Octets> Direct<V> {
    fn launch_payment(&mut self, key: Key, now: Instant) {
        match self.next_payment(key, false, now) {
            Ok((payment, request)) => self.launch_owed(Owed::Key(payment), request, now),
            Err(tried) => self.tried(tried),
        }
    }

    /// The next step of what a key owes goes on its way; if there is none, or none may go, what the tries have come to.
    fn next_payment(&mut self, key: Key, answered: bool, now: Instant) -> Result<(Payment<V>, Request<V>), Tried> {
        let tried = Tried { answered, ..Tried::default() };
        let step = self.fallback.journal_mut().send(&key, now).ok_or(tried)?;
        let is_count = matches!(step, debt::Step::Add { .. });
        let (stage, request) = if is_count && !answered {
            (Stage::Asking, Request::Get { key: Key::clone(&key) })
        } else {
            (Stage::Making, request(&key, &step, now))
        };
        let Some(pass) = self.pass(self.answer_by(&request, now), now) else {
            self.fallback.journal_mut().put_back(&key);
            return Err(tried.and(Tried::SKIPPED));
        };
        Ok((Payment { key, step, stage, pass, answered }, request))
    }

    fn resume_payment(
        &mut self,
        work: WorkId,
        payment: Payment<V>,
        answered: Result<Reply<V>, Fault>,
        now: Instant,
    ) -> Step<V> {
        let Payment { key, step, stage, pass, answered: has_answered } = payment;
        self.judge(pass, answered.as_ref().err().copied(), Fault::verdict_of_owed, now);
        let unanswered = |tried: Tried| Tried { answered: tried.answered || has_answered, ..tried };
        let reply = match answered.map_err(|fault| fault.fate()) {
            Ok(reply) => Some(reply),
            // It has answered.
            Err(None) if stage == Stage::Asking => None,
            Err(None) => {
                if self.fallback.journal_mut().refused(&key) {
                    self.counts.given_up += 1;
                    return self.pay_on(work, key, now);
                }
                // It gets a second chance.
                self.wait(&key, now);
                return self.owed_over(Tried::ANSWERED, now);
            }
            Err(Some(fate)) => {
                self.not_done(&key, &step, stage, fate);
                self.wait(&key, now);
                return self.owed_over(unanswered(Tried::FAILED), now);
            }
        };
        let Some((stage, request)) = next_stage(&key, &step, stage, reply.as_ref(), now) else {
            self.made(&key, &step, stage, reply.as_ref(), now);
            return self.pay_on(work, key, now);
        };
        let Some(pass) = self.pass(self.answer_by(&request, now), now) else {
            self.not_done(&key, &step, stage, Fate::Skipped);
            return self.owed_over(unanswered(Tried::SKIPPED), now);
        };
        let payment = Payment { key, step, stage, pass, answered: has_answered };
        self.ask_owed(work, Owed::Key(payment), request, now)
    }

    /// The store has answered: the next step of the same key, if there is one.
    fn pay_on(&mut self, work: WorkId, key: Key, now: Instant) -> Step<V> {
        match self.next_payment(key, true, now) {
            Ok((payment, request)) => {
                self.has_paid = true;
                self.ask_owed(work, Owed::Key(payment), request, now)
            }
            Err(tried) => self.owed_over(tried, now),
        }
    }

    fn made(&mut self, key: &Key, step: &debt::Step<V>, stage: Stage, reply: Option<&Reply<V>>, now: Instant) {
        self.counts.replayed += 1;
        let sum = if let Some(Reply::Sum(sum)) = reply { Some(*sum) } else { None };
        let held = matches!(step, debt::Step::Remove) && stage == Stage::Making || reply != Some(&Reply::Held(false));
        if let Some(state) = self.fallback.journal_mut().done(key, sum, held) {
            self.fallback.paid(key, state, now);
        }
    }

    fn not_done(&mut self, key: &Key, step: &debt::Step<V>, stage: Stage, fate: Fate) {
        // It must not be done twice.
        if matches!(step, debt::Step::Add { .. }) && stage == Stage::Making && fate == Fate::Unknown {
            self.fallback.journal_mut().lost(key);
            self.counts.unknown += 1;
        } else {
            self.fallback.journal_mut().put_back(key);
        }
    }

    fn wait(&mut self, key: &Key, now: Instant) {
        let waits = self.waits();
        self.fallback.journal_mut().failed(key, now, waits);
    }
}

/// What the store is asked for a step.
fn request<V: Octets>(key: &Key, step: &debt::Step<V>, now: Instant) -> Request<V> {
    let key = Key::clone(key);
    match step {
        debt::Step::Write { value, ends, when, .. } => {
            Request::Put { key, value: value.clone(), ttl: left(*ends, now), when: *when }
        }
        debt::Step::Remove => Request::Remove { key },
        debt::Step::Add { by, ends } => Request::Increment { key, by: *by, ttl: left(*ends, now) },
        debt::Step::Expire { ends, .. } => Request::SetTtl { key, ttl: left(*ends, now) },
    }
}

/// What is asked next for a step of which this was answered; `None`: it is made.
fn next_stage<V: Octets>(
    key: &Key,
    step: &debt::Step<V>,
    stage: Stage,
    reply: Option<&Reply<V>>,
    now: Instant,
) -> Option<(Stage, Request<V>)> {
    if stage == Stage::Asking {
        return Some((Stage::Making, request(key, step, now)));
    }
    if stage == Stage::PuttingAnew || reply != Some(&Reply::Held(false)) {
        return None;
    }
    let (value, ends, until) = match step {
        debt::Step::Write { value, ends, until, .. } => (value, ends, until),
        debt::Step::Expire { value: Some(value), ends, until } => (value, ends, until),
        debt::Step::Expire { value: None, .. } | debt::Step::Remove | debt::Step::Add { .. } => return None,
    };
    let anew =
        || Request::Put { key: Key::clone(key), value: value.clone(), ttl: left(*ends, now), when: When::Absent };
    (*until <= now).then(|| (Stage::PuttingAnew, anew()))
}
