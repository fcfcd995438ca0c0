//! The calls that are in an instance, and what is kept for each of them outside of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use hashbrown::HashMap;
use tideover_core::{Outcome, Refusal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::bindings::cache::exports::tideover::cache::caching as wit;
use super::convert::story;
use crate::driver::Reply;
use crate::engine::Payload;
use crate::error::Error;
use crate::loader::LoadError;
use crate::outside::Origin;

/// Calls that may be in an instance at once, whatever they ask for; the policy limits each key and all flights.
pub(super) const CALLS_MAX: usize = 100_000;

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// All tables are by context: the number of a call, never used twice, increasing but for calls that overtake each other
/// on their way in.
#[derive(Default)]
pub(super) struct Calls {
    waiting: BTreeMap<u64, Answer>,
    loading: HashMap<u64, Loading>,
    /// The error of the last load for a flight, for everybody who waits for that flight.
    errors: HashMap<u64, Arc<LoadError>>,
    /// Contexts whose flight has ended in an error, each behind the last call that may still be answered with it.
    fading: VecDeque<(u64, u64)>,
}

/// The loader of a call, for as long as the call waits or leads a flight.
struct Loading {
    origin: Origin,
    task: Option<AbortHandle>,
}

impl Calls {
    /// Takes a call in, unless there are too many: then it is refused here.
    pub(super) fn begin(&mut self, context: u64, answer: Answer, origin: Option<Origin>) -> bool {
        if self.waiting.len() >= CALLS_MAX {
            let _sent = answer.send(Err(Error::Refused(Refusal::TooManyWaiters { max: CALLS_MAX })));
            return false;
        }
        self.waiting.insert(context, answer);
        if let Some(origin) = origin {
            self.loading.insert(context, Loading { origin, task: None });
        }
        true
    }

    /// Ready when the caller has gone away.
    pub(super) fn poll_gone(&mut self, context: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.get_mut(&context).map_or(Poll::Pending, |answer| answer.poll_closed(cx))
    }

    pub(super) fn origin(&self, context: u64) -> Option<&Origin> {
        self.loading.get(&context).map(|loading| &loading.origin)
    }

    /// A load for `context` runs in `task`, which ends early when the flight is released.
    pub(super) fn load_begins(&mut self, context: u64, task: AbortHandle) {
        if let Some(loading) = self.loading.get_mut(&context) {
            loading.task = Some(task);
        }
    }

    /// A load for `context` has ended; the flight may try again.
    pub(super) fn load_ends(&mut self, context: u64, error: Option<Arc<LoadError>>) {
        if !self.loading.contains_key(&context) {
            return;
        }
        match error {
            Some(error) => self.errors.insert(context, error),
            None => self.errors.remove(&context),
        };
    }

    /// The flight that `context` led is over. Those who waited for it may not have been answered yet.
    pub(super) fn release(&mut self, context: u64) {
        if let Some(task) = self.loading.remove(&context).and_then(|loading| loading.task) {
            task.abort();
        }
        if !self.errors.contains_key(&context) {
            return;
        }
        match self.waiting.last_key_value() {
            Some((last, _)) => self.fading.push_back((*last, context)),
            None => drop(self.errors.remove(&context)),
        }
    }

    pub(super) fn answer(&mut self, context: u64, reply: wit::Reply) {
        if !reply.led {
            self.loading.remove(&context);
        }
        let Some(answer) = self.waiting.remove(&context) else { return };
        let error = reply.leader.and_then(|leader| self.errors.get(&leader)).map(Arc::clone);
        // A caller that has gone away meanwhile needs no answer.
        let _sent = answer.send(match reply.answer {
            Ok(outcome) => Ok(Reply {
                outcome: Outcome::<Payload>::from(outcome),
                error,
                store: reply.store.map(Into::into),
                led: reply.leader == Some(context),
                waited: reply.leader.is_some(),
                story: reply.story.and_then(story).map(Arc::new),
            }),
            Err(refusal) => Err(Error::Refused(Refusal::from(refusal))),
        });
        self.forget_errors();
    }

    /// Forgets the errors that nobody can be answered with any more.
    fn forget_errors(&mut self) {
        let oldest = self.waiting.first_key_value().map_or(u64::MAX, |(context, _)| *context);
        while let Some((_, context)) = self.fading.pop_front_if(|(last, _)| *last < oldest) {
            self.errors.remove(&context);
        }
    }

    /// The instance is gone: everybody who waits is told why, and nothing is kept.
    pub(super) fn fail(&mut self, error: &Error) {
        for (_, answer) in std::mem::take(self).waiting {
            let _sent = answer.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::Receiver;

    fn begin(calls: &mut Calls, context: u64) -> Receiver<Result<Reply, Error>> {
        let (answer, answered) = oneshot::channel();
        let load: crate::loader::Loader = Arc::new(|_| Box::pin(async { Err(LoadError::answer("not called")) }));
        assert!(calls.begin(context, answer, Some(Origin::new(load, Default::default()))));
        answered
    }

    fn failed(leader: u64, led: bool) -> wit::Reply {
        let class = super::super::bindings::types::FailureClass::Answer;
        let failure = super::super::bindings::types::Failure::Load(class);
        let answer = Ok(super::super::bindings::types::Outcome::Failed(failure));
        wit::Reply { answer, leader: Some(leader), led, store: None, story: None }
    }

    fn is_empty(calls: &Calls) -> bool {
        calls.waiting.is_empty() && calls.loading.is_empty() && calls.errors.is_empty() && calls.fading.is_empty()
    }

    #[test]
    fn an_error_is_kept_for_those_who_were_there_and_for_nobody_else() {
        let mut calls = Calls::default();
        let [mut leader, mut follower] = [1, 2].map(|context| begin(&mut calls, context));
        calls.load_ends(1, Some(Arc::new(LoadError::answer("gone"))));
        calls.release(1);
        let _later = begin(&mut calls, 3);
        for (context, answered) in [(1, &mut leader), (2, &mut follower)] {
            assert!(calls.errors.contains_key(&1), "{context} is still to be answered");
            calls.answer(context, failed(1, context == 1));
            let reply = answered.try_recv().expect("answered").expect("a reply");
            assert_eq!(reply.error.expect("the loader's").to_string(), "gone");
            assert_eq!(reply.led, context == 1);
        }
        assert!(calls.errors.is_empty(), "3 came later");
        calls.answer(3, failed(3, false));
        assert!(is_empty(&calls));
    }

    #[test]
    fn a_loader_is_kept_until_its_flight_is_released() {
        let mut calls = Calls::default();
        let _led = begin(&mut calls, 1);
        calls.answer(1, wit::Reply { leader: None, ..failed(1, true) });
        assert!(calls.origin(1).is_some(), "a refresh goes on behind the answer");
        calls.load_ends(1, Some(Arc::new(LoadError::answer("gone"))));
        calls.release(1);
        calls.load_ends(1, Some(Arc::new(LoadError::answer("too late"))));
        assert!(is_empty(&calls));
    }

    #[test]
    fn a_later_attempt_takes_the_place_of_the_error() {
        let mut calls = Calls::default();
        let _waits = begin(&mut calls, 1);
        calls.load_ends(1, Some(Arc::new(LoadError::unavailable("once"))));
        calls.load_ends(1, None);
        assert!(calls.errors.is_empty());
    }
}
