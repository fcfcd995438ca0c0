//! The callers' end of a connection: how a request gets into its queue, and an answer back, by a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Keeping, Stream, Watcher, Wire};
use crate::store::began;
use crate::store::redis::failure::{Fault, Loss};
use crate::store::redis::log::Head;
use crate::store::redis::pulse::{Pulse, by};
use crate::store::redis::reply::Reply;
use crate::store::redis::request::Request;

/// The callers' end of a connection.
pub(in super::super) struct Link {
    queue: mpsc::UnboundedSender<Op>,
    silent: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    /// Requests without an answer.
    pending: Arc<AtomicUsize>,
    queue_max: usize,
}

/// A request on its way.
pub(super) struct Op {
    pub(super) request: Request,
    pub(super) number: u64,
    /// The node is asked to serve a key that it is only about to get.
    pub(super) asking: bool,
    pub(super) answer: Answer,
}

/// What the server said, and where its log ends, for who heeds it.
#[derive(Debug)]
pub(in super::super) struct Answered {
    pub(in super::super) reply: Reply,
    pub(in super::super) head: Option<Head>,
}

impl From<Reply> for Answered {
    fn from(reply: Reply) -> Self {
        Self { reply, head: None }
    }
}

/// Where the answer goes. It counts as pending until it is dropped.
pub(super) struct Answer {
    to: oneshot::Sender<Result<Answered, Fault>>,
    pub(super) heeds: bool,
    pending: Pending,
}

struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Answer {
    /// Whether its caller has left.
    pub(super) fn is_unwanted(&self) -> bool {
        self.to.is_closed()
    }

    pub(super) fn give(self, result: Result<Answered, Fault>) {
        // Counted out first: who gets the answer may ask again at once.
        drop(self.pending);
        // It fails when the caller has left.
        let _ = self.to.send(result);
    }
}

impl Link {
    /// Starts the task of a connection on `stream`.
    pub(in super::super) fn start(stream: Box<dyn Stream>, keeping: &Keeping, watcher: Watcher) -> Self {
        let (queue, ops) = mpsc::unbounded_channel();
        let wire = Wire::new(stream, ops, keeping.clone(), watcher);
        let (silent, pulse) = (Arc::clone(&wire.silent), Arc::clone(&wire.pulse));
        tokio::spawn(wire.run());
        Self { queue, silent, pulse, pending: Arc::default(), queue_max: keeping.queue_max }
    }

    /// The answer to `request`, by `deadline`.
    pub(in super::super) async fn ask(
        &self,
        request: Request,
        asking: bool,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
        self.answer(request, asking, deadline).await.map(|answered| answered.reply)
    }

    /// The answer to `request`, by `deadline`, with the end of the log if the request heeds it.
    pub(in super::super) async fn answer(
        &self,
        request: Request,
        asking: bool,
        deadline: Instant,
    ) -> Result<Answered, Fault> {
        let effect = request.effect;
        let (asked_at, number) = (began().unwrap_or_else(Instant::now), self.pulse.next());
        let answer = self.send(request, asking, number)?;
        match by(deadline, answer).await {
            Some(Ok(Ok(Answered { reply: Reply::Refused(refusal), .. }))) => Err(Fault::Refused(refusal)),
            Some(Ok(result)) => result,
            Some(Err(_dropped)) => Err(Fault::Lost { sent: true, why: Loss::Broken("its task ended".into()) }),
            None if self.pulse.had_its_time(number, effect, asked_at, Instant::now()) => Err(Fault::TimedOut),
            None => Err(Fault::Congested),
        }
    }

    fn send(
        &self,
        request: Request,
        asking: bool,
        number: u64,
    ) -> Result<oneshot::Receiver<Result<Answered, Fault>>, Fault> {
        let pending = Pending(Arc::clone(&self.pending));
        if self.pending.fetch_add(1, Ordering::Relaxed) >= self.queue_max {
            return Err(Fault::Full(self.queue_max));
        }
        let (to, answer) = oneshot::channel();
        let op = Op { number, asking, answer: Answer { to, heeds: request.heeds, pending }, request };
        let unsent = |_| Fault::Lost { sent: false, why: Loss::Broken("it had ended before".into()) };
        self.queue.send(op).map_err(unsent)?;
        Ok(answer)
    }

    /// Whether all is unanswered for [`Keeping::doubt_after`].
    pub(in super::super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Whether the connection has not ended yet, as far as is known.
    pub(in super::super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }
}
