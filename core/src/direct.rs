//! Direct operations: bytes under keys in the shared store that are no cached values (counters, locks, sessions), and that
//! are to go on while the store is away.
//!
//! [`Direct`] decides who answers: the store, through a circuit of its own and within the deadlines of the policy; or,
//! while it is away, what stands in for it. What was changed meanwhile is owed, and paid when the store is back, before
//! its word on these keys is taken again.
//!
//! # The protocol
//!
//! Each operation is a *work*. Its driver does what the [`Step`] says, hands the [`Event`] to [`Direct::resume`], and gets
//! the next step:
//!
//! | step | what to do | event |
//! |---|---|---|
//! | [`Step::Ask`] | ask the store, until the deadline | [`Event::Answered`] |
//! | [`Step::Wait`] | wait until then, or until [`Direct::take_paid`] says so | [`Event::Waited`] |
//! | [`Step::Done`] | answer the caller | |
//! | [`Step::Over`] | nothing: the work had no caller | |
//!
//! What is owed is paid by works of the machine's own. After every call of a function that takes `&mut self` the driver
//! asks [`Direct::take_paid`], fetches what there is [to launch](Direct::launches), and flies each beside all else. One that
//! runs on several threads resumes a work that is to wait once more after it has begun to listen, lest it miss the word.
//!
//! ```
//! use std::collections::VecDeque;
//! use tideover_core::direct::{Direct, Event, Fault, Heard, Reply, Request, Step, WorkId};
//! use tideover_core::{Instant, Policy, Source};
//!
//! let mut direct: Direct<Vec<u8>> = Direct::new(&Policy::default(), true, 1);
//! let mut now = Instant::ZERO;
//! let put = Request::Put { key: "k".into(), value: b"v".to_vec(), ttl: None, when: Default::default() };
//!
//! // The store cannot be reached: what stands in for it takes the change, and owes it.
//! let (work, step) = direct.begin(put.into(), now);
//! assert!(matches!(step, Step::Ask { .. }));
//! let Step::Done(Ok(answer)) = direct.resume(work, Event::Answered(Err(Fault::Unavailable)), now) else {
//!     unreachable!("it is answered here")
//! };
//! assert_eq!((answer.source, direct.owed()), (Source::Fallback, 1));
//!
//! // It is back: a work is launched that pays.
//! now = now + std::time::Duration::from_secs(1);
//! direct.maintain(now);
//! let mut works: VecDeque<_> = direct.launches().collect();
//! while let Some(launch) = works.pop_front() {
//!     let mut step = launch.step;
//!     while let Step::Ask { request, .. } = step {
//!         assert_eq!(request.name(), "put");
//!         let heard = Heard { reply: Reply::Held(true), left: None };
//!         step = direct.resume(launch.work, Event::Answered(Ok(heard)), now);
//!     }
//!     works.extend(direct.launches());
//! }
//! assert_eq!(direct.owed(), 0);
//! ```
//!
//! A work whose driver cannot go on is to be [abandoned](Direct::abandon).

mod calls;
mod cursor;
mod debt;
mod fallback;
mod journal;
mod pay;
mod turns;
mod walk;
mod words;

use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

use self::calls::Call;
use self::fallback::Fallback;
use self::pay::{Owed, Round};
use self::turns::Waits;
pub use self::words::{
    Ability, Answer, Cursor, Fault, Key, Octets, Operation, Page, Remaining, Reply, Request, Unanswered, When, number,
};
use crate::breaker::{Breaker, BreakerReport, Mode, Permit, State, Verdict};
use crate::policy::Policy;
use crate::time::Instant;

/// The number of a work; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(u64);

/// For whom the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A caller of the operation with that name.
    Called(&'static str),
    /// What is owed.
    Owed,
    /// To find out whether it answers.
    Probe,
}

/// What the driver of a work does next.
pub enum Step<V> {
    /// Asks the store.
    Ask {
        /// What is asked.
        request: Request<V>,
        /// Of a [`Request::Get`] and a [`Request::Increment`]: when the key ends is to be asked at the same time, if the
        /// store can tell.
        with_end: bool,
        /// For whom.
        purpose: Purpose,
        /// Without an answer until then it is [`Fault::TimedOut`].
        deadline: Instant,
    },
    /// Waits until something was paid, or until then.
    Wait {
        /// The end of its patience.
        until: Instant,
    },
    /// The work is over: this is for its caller.
    Done(Result<Answer<V>, Unanswered>),
    /// The work is over, and had no caller.
    Over,
}

/// What has become of a step.
pub enum Event<V> {
    /// Of [`Step::Ask`].
    Answered(Result<Heard<V>, Fault>),
    /// Of [`Step::Wait`].
    Waited,
}

/// What a store has answered.
#[derive(Clone, PartialEq)]
pub struct Heard<V> {
    /// The answer, of the kind that the request names.
    pub reply: Reply<V>,
    /// When the key ends, if that was asked and told.
    pub left: Option<Remaining>,
}

/// A work of the machine's own, which somebody has to fly.
pub struct Launch<V> {
    /// Its number.
    pub work: WorkId,
    /// Its first step.
    pub step: Step<V>,
}

counts! {
    "direct_";
    /// What direct operations have counted.
    ///
    /// ```
    /// use tideover_core::Policy;
    /// use tideover_core::direct::{Direct, DirectStats, Request};
    ///
    /// let mut direct: Direct<Vec<u8>> = Direct::new(&Policy::default(), false, 1);
    /// direct.begin(Request::Ping.into(), tideover_core::Instant::ZERO);
    /// assert_eq!(direct.stats().answers, 1);
    /// assert!(DirectStats::NAMES.iter().all(|(name, _)| name.starts_with("direct_")));
    /// ```
    pub struct DirectStats {
        /// Direct operations that were answered, by whomever.
        answers,
        /// Of those, the ones answered by what stands in for the store.
        fallback,
        /// Operations of the store for direct operations that failed.
        failures,
        /// Changes by direct operations that came to be owed to the store.
        journaled,
        /// Keys whose direct operations are owed to the store.
        owed,
        /// Steps of direct operations that were owed and have reached the store.
        replayed,
        /// Changes by direct operations that were refused because as many are owed as may be.
        journal_full,
        /// Counts and conditional writes that were sent to the store and not answered: callers were told, or they were owed and are given up.
        unknown,
        /// Changes that were owed, and that the store has refused for good.
        given_up,
    }
}

/// A call that the circuit has let pass.
struct Pass {
    permit: Permit,
    since: Instant,
}

enum Work<V> {
    Call(Call<V>),
    Owed(Owed<V>),
    /// Of the probe with that number.
    Probe(u64),
}

/// The machine of direct operations. See the [module](self).
pub struct Direct<V: Octets> {
    policy: Policy,
    has_store: bool,
    circuit: Breaker,
    fallback: Fallback<V>,
    counts: DirectStats,
    works: HashMap<WorkId, Work<V>>,
    newest: u64,
    round: Option<Round>,
    launches: Vec<Launch<V>>,
    has_paid: bool,
    is_closed: bool,
}

impl<V: Octets> Direct<V> {
    /// A machine without anything in it. Without a store it answers by itself, and nothing is owed.
    #[must_use]
    pub fn new(policy: &Policy, has_store: bool, seed: u64) -> Self {
        Self {
            policy: policy.clone(),
            has_store,
            circuit: Breaker::new(policy.store_breaker_policy(), seed),
            fallback: Fallback::new(policy, has_store, seed),
            counts: DirectStats::default(),
            works: HashMap::new(),
            newest: 0,
            round: None,
            launches: Vec::new(),
            has_paid: false,
            is_closed: false,
        }
    }

    /// Goes on with a work, after what has become of its step. For one that is over already it is [`Step::Over`].
    pub fn resume(&mut self, work: WorkId, event: Event<V>, now: Instant) -> Step<V> {
        match (self.works.remove(&work), event) {
            (Some(Work::Call(call)), event) => self.resume_call(work, call, event, now),
            (Some(Work::Owed(owed)), Event::Answered(answered)) => self.resume_owed(work, owed, answered, now),
            (Some(Work::Probe(probe)), Event::Answered(answered)) => self.probed(probe, answered.err(), now),
            // That is no answer to its step.
            (Some(other), Event::Waited) => self.give_up(other, now),
            (None, _) => Step::Over,
        }
    }

    /// The driver of a work cannot go on: whoever called has gone away, or the task was ended. Nobody knows whether what
    /// the store was asked last was done.
    pub fn abandon(&mut self, work: WorkId, now: Instant) {
        if let Some(abandoned) = self.works.remove(&work) {
            self.give_up(abandoned, now);
        }
    }

    fn give_up(&mut self, work: Work<V>, now: Instant) -> Step<V> {
        match work {
            Work::Call(call) => self.abandon_call(call, now),
            Work::Owed(owed) => self.abandon_owed(owed, now),
            Work::Probe(probe) => self.probed(probe, Some(Fault::Congested), now),
        }
    }

    /// What there is to launch since the last call.
    pub fn launches(&mut self) -> impl Iterator<Item = Launch<V>> + use<V> {
        core::mem::take(&mut self.launches).into_iter()
    }

    /// Whether something was paid since the last call, or is not going to be: then whoever [waits](Step::Wait) goes on.
    pub const fn take_paid(&mut self) -> bool {
        core::mem::replace(&mut self.has_paid, false)
    }

    /// Does what is due although nobody calls; to be called each second or so.
    pub fn maintain(&mut self, now: Instant) {
        let is_due = self.has_store && (self.owed() > 0 || !self.is_circuit_closed());
        if is_due && !self.is_closed {
            self.start_paying(now);
        }
    }

    /// Takes no more calls: they get [`Unanswered::Closed`]. Tells whether it did until now.
    pub const fn close(&mut self) -> bool {
        !core::mem::replace(&mut self.is_closed, true)
    }

    /// Begins to pay whatever is owed, also what was to wait; see [`is_paying`](Self::is_paying).
    pub fn pay_up(&mut self, now: Instant) {
        self.fallback.journal_mut().retry_all();
        self.start_paying(now);
    }

    /// Whether something is being paid.
    #[must_use]
    pub const fn is_paying(&self) -> bool {
        self.round.is_some()
    }

    /// Whether no work is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.works.is_empty()
    }

    /// Keys and patterns that owe something to the store.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.fallback.journal().len()
    }

    /// What was counted, and what is owed.
    #[must_use]
    pub fn stats(&self) -> DirectStats {
        let journal = self.fallback.journal();
        DirectStats { owed: journal.len() as u64, journaled: journal.taken(), ..self.counts }
    }

    /// The circuit between direct operations and the store. It is made from the same choices as the cache's own, and
    /// judges by what direct operations meet alone.
    #[must_use]
    pub fn look(&self) -> BreakerReport {
        self.circuit.look()
    }

    /// Overrules the circuit, or lets it decide again.
    pub fn set_breaker_mode(&mut self, mode: Mode, now: Instant) {
        self.circuit.set_mode(mode, now);
    }

    /// Closes the circuit and forgets what was counted against the store. In a forced mode it stays forced.
    pub fn reset_breaker(&mut self, now: Instant) {
        self.circuit.reset(now);
    }
}

/// The way to the store.
impl<V: Octets> Direct<V> {
    fn is_circuit_closed(&self) -> bool {
        self.circuit.state() == State::Closed
    }

    fn new_work(&mut self) -> WorkId {
        self.newest += 1;
        WorkId(self.newest)
    }

    /// The right to ask the store once.
    fn pass(&mut self, deadline: Instant, now: Instant) -> Option<Pass> {
        let permit = self.circuit.try_acquire(now, deadline).ok()?;
        Some(Pass { permit, since: now })
    }

    fn report(&mut self, pass: Pass, verdict: Verdict, now: Instant) {
        self.circuit.report(pass.permit, verdict, now - pass.since, now);
    }

    /// Reports what an answer says of the store, to a caller's call or not.
    fn judge(&mut self, pass: Pass, fault: Option<Fault>, judged: fn(Fault) -> Verdict, now: Instant) {
        self.counts.failures += u64::from(fault.is_some());
        self.report(pass, fault.map_or(Verdict::Success, judged), now);
    }

    fn read_by(&self, now: Instant) -> Instant {
        now + self.policy.store_read_deadline
    }

    fn write_by(&self, now: Instant) -> Instant {
        now + self.policy.store_write_deadline
    }

    /// Until when the store may think about that.
    fn answer_by(&self, request: &Request<V>, now: Instant) -> Instant {
        if request.is_read() { self.read_by(now) } else { self.write_by(now) }
    }

    fn waits(&self) -> Waits {
        Waits::of(&self.policy)
    }
}

/// What is left until then; `None`: for ever.
fn left(ends: Instant, now: Instant) -> Option<Duration> {
    (ends != Instant::NEVER).then(|| ends - now)
}

/// When a value ends that is written now.
fn ends(ttl: Option<Duration>, now: Instant) -> Instant {
    ttl.map_or(Instant::NEVER, |ttl| now + ttl)
}
