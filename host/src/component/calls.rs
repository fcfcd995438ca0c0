//! The calls that are in an instance, and what is kept for each of them outside of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hashbrown::HashMap;
use tideover_core::{Outcome, Refusal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::bindings::cache::exports::tideover::cache::caching as wit;
use crate::driver::Reply;
use crate::error::Error;
use crate::loader::LoadError;
use crate::outside::Origin;

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
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn begin(&mut self, context: u64, answer: Answer, origin: Option<Origin>) {
        self.waiting.insert(context, answer);
        if let Some(origin) = origin {
            self.loading.insert(context, Loading { origin, task: None });
        }
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
                outcome: Outcome::<Bytes>::from(outcome),
                error,
                led: reply.leader == Some(context),
                waited: reply.leader.is_some(),
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
