//! One connection: what leaves when, which answer belongs to whom, and when the connection counts as broken.
//!
//! A task owns the socket; callers hand it requests through a queue. With nothing on the wire a request leaves at
//! once, unless several callers were answered just now, who may ask again together. Otherwise requests gather while
//! [`BATCHES_MAX`] batches are unanswered (of a crowd, near the server, [`NEAR_BATCHES_MAX`]), and leave together: the `GET`s
//! of a batch as one `MGET` at its end (where the deployment allows it), before them runs of the same script as one, and all
//! else before that, in the order in which it came. All
//! of a batch was asked for before any of it was answered, so readers cannot tell the difference. A request whose
//! caller left before it was sent is not sent; an answer whose caller left is discarded. Behind the requests of a batch
//! that heed the log its end is asked for, once, and their answers wait for it: by then it is as new as they are.
//!
//! Callers that wait together ask again together, and would go on as one batch, with the server idle while they work and they
//! while it does. So a crowd is answered in two halves when the server has nothing else to do: what the first asks for next
//! is on its way before the second is woken, and from then on each works at one while the other works at the other.
//!
//! It does not know of deployments, retries or deadlines.

mod link;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::failure::{Fault, Loss};
use super::log::{Head, head};
use super::pulse::{LOOK_EVERY, Pulse};
use super::reply::{Decoder, Garbage, Reply};
use super::request::{Body, pack, pack_count, pack_word};

pub(super) use self::link::{Answered, Link};

use self::link::{Answer, Op};

/// Batches unanswered at once; past it requests gather. More than one, so that distance to the server costs no throughput.
const BATCHES_MAX: usize = 4;

/// The same where the server is near (the latest batch was answered within [`NEAR`]) and so many requests are unanswered: each
/// batch has its price at both ends, which is more there than the wait for the answer. One is served while another is made.
const NEAR_BATCHES_MAX: usize = 2;
const NEAR: Duration = Duration::from_millis(1);

/// So many requests under way gather sooner near the server, and so many callers that are answered together may ask again together.
const GATHER_FROM: usize = 8;

/// Requests and bytes in one batch, and keys in one command: others get a turn at the server in between.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 256 * 1024;
const MERGED_MAX: usize = 128;

/// So many requests leave without waiting for others.
const CROWD: usize = 64;

/// What an answer about the end of the log may be long at most, to be known again: a note takes some hundred bytes.
const HEAD_MAX: usize = 512;

/// Room for answers that is made at once.
const READ_SIZE: usize = 16 * 1024;

/// Room that is kept once it is empty.
const ROOM_MAX: usize = 1024 * 1024;

/// What a connection runs on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// How a connection is kept.
#[derive(Debug, Clone)]
pub(super) struct Keeping {
    /// Requests without an answer, sent or not, past which more are refused.
    pub(super) queue_max: usize,
    /// How long everything may stay unanswered.
    pub(super) silence_max: Duration,
    /// How long nothing may happen before the server is asked whether it is there, and how long it may then think.
    pub(super) idle_max: Duration,
    pub(super) ping_max: Duration,
    /// How long everything may stay unanswered before that is told, and told again.
    pub(super) doubt_after: Duration,
    /// Whether several `GET`s may become one `MGET`.
    pub(super) merges: bool,
    /// The command that asks for the end of the log.
    pub(super) head: Bytes,
}

/// What a connection tells of itself, apart from answers.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing came back for a while. It may yet.
    Silent,
    /// It has ended, and not because nobody wanted it any more.
    Ended(Loss),
    /// The server says something that nobody has asked for.
    Pushed(Vec<Reply>),
}

/// Who is told. It runs on the connection's task and must not take long.
pub(super) type Watcher = Box<dyn Fn(News) + Send>;

/// What the next answer is for.
enum Awaited {
    One(Answer),
    /// A list with an item for each: an `MGET`, or a run of a script.
    Many(Vec<(Body, Answer)>),
    /// The end of the log: for those that asked for nothing else, and those that wait for it.
    Head(Vec<Answer>),
    /// A subscription, which is confirmed by a push message.
    Subscription(Answer),
    /// A word to the server that nobody waits for.
    Nobody,
    /// Behind it the answers of the next batch begin. This one was of so many requests.
    EndOfBatch(usize),
}

/// The task's end of a connection.
struct Wire {
    stream: Box<dyn Stream>,
    ops: mpsc::UnboundedReceiver<Op>,
    keeping: Keeping,
    gathered: Vec<Op>,
    gathered_bytes: usize,
    /// Others of this turn have had their chance to join, or will have had it when this task is polled next.
    yielded: bool,
    out: BytesMut,
    unflushed: bool,
    input: BytesMut,
    decoder: Decoder,
    awaited: VecDeque<Awaited>,
    /// Answers that wait for the end of the log.
    held: Vec<(Answer, Reply)>,
    /// Answers whose callers are to be woken.
    due: VecDeque<(Answer, Answered)>,
    /// The latest answer about the end of the log, as it came and what it says: most of the time the next is the same.
    head: (Bytes, u64),
    batches: usize,
    /// The requests of those batches.
    unanswered: usize,
    /// The latest answer took less than [`NEAR`].
    near: bool,
    /// The number of the last request that has left.
    last: u64,
    /// The server refused several keys in one command on this connection.
    merges_refused: bool,
    /// The last time that the server said something, or was asked when nothing was unanswered.
    heard_at: Instant,
    /// When it is told that it has been silent, or is told again.
    doubt_at: Instant,
    /// Nothing but our own ping is unanswered.
    ping_alone: bool,
    silent: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    watcher: Watcher,
    timer: Pin<Box<Sleep>>,
}

impl Wire {
    fn new(stream: Box<dyn Stream>, ops: mpsc::UnboundedReceiver<Op>, keeping: Keeping, watcher: Watcher) -> Self {
        Self {
            stream,
            ops,
            gathered: Vec::new(),
            gathered_bytes: 0,
            yielded: false,
            out: BytesMut::new(),
            unflushed: false,
            input: BytesMut::new(),
            decoder: Decoder::default(),
            awaited: VecDeque::new(),
            held: Vec::new(),
            due: VecDeque::new(),
            head: (Bytes::new(), 0),
            batches: 0,
            unanswered: 0,
            near: false,
            last: 0,
            merges_refused: false,
            heard_at: Instant::now(),
            doubt_at: Instant::now() + keeping.doubt_after,
            ping_alone: false,
            silent: Arc::default(),
            pulse: Arc::default(),
            watcher,
            timer: Box::pin(sleep(keeping.idle_max)),
            keeping,
        }
    }

    /// Serves until the connection ends, or nobody wants it any more.
    async fn run(mut self) {
        let loss = std::future::poll_fn(|context| self.poll(context)).await;
        self.wake(self.due.len());
        self.ops.close();
        let why = loss.clone().unwrap_or(Loss::Retired);
        let lose = |answer: Answer, sent| answer.give(Err(Fault::Lost { sent, why: why.clone() }));
        for awaited in mem::take(&mut self.awaited) {
            match awaited {
                Awaited::One(answer) | Awaited::Subscription(answer) => lose(answer, true),
                Awaited::Many(reads) => reads.into_iter().for_each(|(_, answer)| lose(answer, true)),
                Awaited::Head(answers) => answers.into_iter().for_each(|answer| lose(answer, true)),
                Awaited::Nobody | Awaited::EndOfBatch(_) => {}
            }
        }
        mem::take(&mut self.held).into_iter().for_each(|(answer, _)| lose(answer, true));
        let queued = std::iter::from_fn(|| self.ops.try_recv().ok());
        mem::take(&mut self.gathered).into_iter().chain(queued).for_each(|op| lose(op.answer, false));
        if let Some(loss) = loss {
            (self.watcher)(News::Ended(loss));
        }
    }

    /// Does what can be done now. Ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Loss>> {
        if let Poll::Ready(loss) = self.receive(context) {
            return Poll::Ready(Some(loss));
        }
        let wanted = self.gather(context);
        if let Poll::Ready(Err(error)) = self.send(context) {
            return Poll::Ready(Some(Loss::of(&error)));
        }
        self.hand_over(context);
        if !wanted && self.awaited.is_empty() && self.out.is_empty() {
            return Poll::Ready(None);
        }
        self.keep_time(context).map(Some)
    }

    /// Takes in what has come, until there is no more for now.
    fn receive(&mut self, context: &mut Context<'_>) -> Poll<Loss> {
        loop {
            if self.input.capacity() - self.input.len() < READ_SIZE / 4 {
                self.input.reserve(READ_SIZE);
            }
            let Poll::Ready(read) = pin!(self.stream.read_buf(&mut self.input)).poll(context) else {
                self.pulse.looked(Instant::now());
                return Poll::Pending;
            };
            match read {
                Ok(0) => return Poll::Ready(Loss::Broken("the server closed it".into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Loss::of(&error)),
            }
            self.hear(Instant::now());
            self.ping_alone = false;
            self.silent.store(false, Ordering::Relaxed);
            loop {
                match self.take_in() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => return Poll::Ready(Loss::Garbage),
                }
            }
            if self.input.is_empty() && self.input.capacity() > ROOM_MAX {
                self.input = BytesMut::new();
            }
        }
    }

    /// Finds out to whom the next answer belongs, if all of it has come.
    fn take_in(&mut self) -> Result<bool, Garbage> {
        let is_head = matches!(self.awaited.front(), Some(Awaited::Head(_)));
        if is_head && !self.head.0.is_empty() && self.input.starts_with(&self.head.0) {
            self.decoder = Decoder::default();
            self.input.advance(self.head.0.len());
            self.deliver_head(&Ok(self.head.1));
            return Ok(true);
        }
        let length = self.input.len();
        let begin = Bytes::copy_from_slice(if is_head { &self.input[..length.min(HEAD_MAX)] } else { &[] });
        let Some(reply) = self.decoder.next(&mut self.input)? else { return Ok(false) };
        if is_head && !matches!(reply, Reply::Push(_)) {
            let head = head(&reply);
            // A longer one is read anew each time.
            let length = length - self.input.len();
            if let Ok(newest) = head
                && length <= begin.len()
            {
                self.head = (begin.slice(..length), newest);
            }
            self.deliver_head(&head);
        } else {
            self.deliver(reply).ok_or(Garbage)?;
        }
        Ok(true)
    }

    /// Finds out to whom an answer belongs; `None` if nobody asked for it.
    fn deliver(&mut self, reply: Reply) -> Option<()> {
        if let Reply::Push(pushed) = reply {
            self.take_push(pushed);
            return Some(());
        }
        match self.awaited.pop_front()? {
            Awaited::One(answer) | Awaited::Subscription(answer) => self.give(answer, reply),
            Awaited::Many(reads) => return self.deliver_many(reads, reply),
            Awaited::Nobody => {}
            Awaited::Head(_) | Awaited::EndOfBatch(_) => return None,
        }
        self.end_batches();
        Some(())
    }

    fn take_push(&mut self, pushed: Vec<Reply>) {
        let confirms = matches!(pushed.first(), Some(Reply::Bytes(kind)) if kind == "subscribe");
        if !confirms {
            return (self.watcher)(News::Pushed(pushed));
        }
        if matches!(self.awaited.front(), Some(Awaited::Subscription(_)))
            && let Some(Awaited::Subscription(answer)) = self.awaited.pop_front()
        {
            self.give(answer, Reply::Nil);
            self.end_batches();
        }
    }

    /// An answer is due, or held until the end of the log is known.
    fn give(&mut self, answer: Answer, reply: Reply) {
        if answer.heeds { self.held.push((answer, reply)) } else { self.due.push_back((answer, reply.into())) }
    }

    /// Wakes callers: half of a crowd that the server would be idle for meanwhile, all of others. After several it is seen what
    /// they ask for next before anything leaves.
    fn hand_over(&mut self, context: &mut Context<'_>) {
        let due = self.due.len();
        let in_halves = self.near && due >= 2 * GATHER_FROM && self.unanswered < GATHER_FROM;
        let now = if in_halves { due / 2 } else { due };
        self.wake(now);
        if now >= GATHER_FROM {
            self.yielded = true;
            context.waker().wake_by_ref();
        }
    }

    fn wake(&mut self, count: usize) {
        self.due.drain(..count).for_each(|(answer, answered)| answer.give(Ok(answered)));
    }

    fn deliver_head(&mut self, head: &Head) {
        let Some(Awaited::Head(answers)) = self.awaited.pop_front() else { return };
        let alone = answers.into_iter().map(|answer| (answer, Reply::Nil));
        let all = self.held.drain(..).chain(alone);
        self.due.extend(all.map(|(answer, reply)| (answer, Answered { reply, head: Some(head.clone()) })));
        self.end_batches();
    }

    fn end_batches(&mut self) {
        while let Some(Awaited::EndOfBatch(requests)) = self.awaited.front() {
            self.unanswered -= requests;
            self.batches -= 1;
            self.awaited.pop_front();
            if let Some(left_at) = self.pulse.answered() {
                self.near = self.heard_at.saturating_duration_since(left_at) < NEAR;
            }
        }
    }

    fn deliver_many(&mut self, asked: Vec<(Body, Answer)>, reply: Reply) -> Option<()> {
        self.end_batches();
        match reply {
            Reply::List(values) if values.len() == asked.len() => {
                asked.into_iter().zip(values).for_each(|((_, answer), value)| self.give(answer, value));
            }
            Reply::Refused(refusal) if asked.len() > 1 && refusal.forbids_merging() => {
                // The user may `GET` and not `MGET`, or use some of the keys and not all.
                self.merges_refused = true;
                let heeds = asked.iter().any(|(_, answer)| answer.heeds);
                let requests = asked.len();
                for (body, answer) in asked {
                    self.put(body, answer);
                }
                if heeds {
                    self.put_head(Vec::new());
                }
                self.close_batch(requests);
            }
            Reply::Refused(refusal) => {
                asked.into_iter().for_each(|(_, answer)| self.give(answer, Reply::Refused(refusal.clone())));
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes requests from the queue and seals batches, as far as they may leave. `false` when nobody can ask any more.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        while self.may_leave() && self.out.len() < BATCH_BYTES_MAX {
            let open = self.collect(context);
            if self.gathered.is_empty() {
                self.yielded = false;
                return open != Collected::Closed;
            }
            if self.batches > 0 && !self.yielded && open == Collected::All && self.gathered.len() < CROWD {
                // Others of this turn may want to come along. A crowd has no time to lose: it is behind many others itself.
                self.yielded = true;
                context.waker().wake_by_ref();
                return true;
            }
            self.seal();
        }
        true
    }

    /// Whether the next batch leaves now, if there is one.
    fn may_leave(&self) -> bool {
        let gathers = self.near && self.unanswered >= GATHER_FROM;
        self.batches < if gathers { NEAR_BATCHES_MAX } else { BATCHES_MAX }
    }

    fn collect(&mut self, context: &mut Context<'_>) -> Collected {
        while self.gathered.len() < BATCH_MAX && self.gathered_bytes < BATCH_BYTES_MAX {
            // What is polled counts against the task's budget, and a crowd would come in handfuls, each behind all others.
            let ready = self.ops.try_recv().ok().map(Some).map(Poll::Ready);
            match ready.unwrap_or_else(|| self.ops.poll_recv(context)) {
                Poll::Ready(Some(op)) => {
                    self.gathered_bytes += op.request.weight();
                    self.gathered.push(op);
                }
                Poll::Ready(None) => return Collected::Closed,
                Poll::Pending => return Collected::All,
            }
        }
        Collected::Enough
    }

    /// Writes down what was gathered: commands in their order, then the reads.
    fn seal(&mut self) {
        (self.yielded, self.gathered_bytes) = (false, 0);
        if self.awaited.is_empty() {
            self.begin_waiting();
        }
        let before = self.awaited.len();
        let (mut scripts, mut reads, mut heads, mut heeds) = (Vec::new(), Vec::new(), Vec::new(), false);
        let mut gathered = mem::take(&mut self.gathered);
        let requests = gathered.len();
        for op in gathered.drain(..) {
            self.last = self.last.max(op.number);
            if op.answer.is_unwanted() {
                continue;
            }
            heeds |= op.answer.heeds;
            if op.asking {
                pack(&mut self.out, [&b"ASKING"[..]].into_iter());
                self.awaited.push_back(Awaited::Nobody);
            }
            match op.request.body {
                body @ (Body::Get(_) | Body::Script(_)) if op.asking => self.put(body, op.answer),
                body @ Body::Get(_) => reads.push((body, op.answer)),
                body @ Body::Script(_) => scripts.push((body, op.answer)),
                Body::Head => heads.push(op.answer),
                body => self.put(body, op.answer),
            }
        }
        self.gathered = gathered;
        self.put_scripts(scripts);
        self.put_reads(reads);
        if heeds {
            self.put_head(heads);
        }
        if self.awaited.len() > before {
            self.ping_alone = false;
            self.close_batch(requests);
        }
    }

    fn close_batch(&mut self, requests: usize) {
        self.awaited.push_back(Awaited::EndOfBatch(requests));
        self.batches += 1;
        self.unanswered += requests;
        self.pulse.left(self.last, Instant::now());
    }

    fn may_merge(&self) -> bool {
        self.keeping.merges && !self.merges_refused
    }

    fn put_reads(&mut self, mut reads: Vec<(Body, Answer)>) {
        while self.may_merge() && reads.len() > 1 {
            let rest = reads.split_off(reads.len().min(MERGED_MAX));
            pack_count(&mut self.out, reads.len() + 1);
            pack_word(&mut self.out, b"MGET");
            for (body, _) in &reads {
                if let Body::Get(key) = body {
                    pack_word(&mut self.out, key);
                }
            }
            self.awaited.push_back(Awaited::Many(mem::replace(&mut reads, rest)));
        }
        for (body, answer) in reads {
            self.put(body, answer);
        }
    }

    /// Writes down runs of scripts: those that go together as one.
    fn put_scripts(&mut self, mut scripts: Vec<(Body, Answer)>) {
        while self.may_merge() && !scripts.is_empty() {
            let goes_along = |(body, _): &(Body, Answer)| match (&scripts[0].0, body) {
                (Body::Script(first), Body::Script(part)) => first.goes_with(part),
                _ => false,
            };
            let count = scripts.iter().take(MERGED_MAX).take_while(|script| goes_along(script)).count().max(1);
            let rest = scripts.split_off(count);
            self.put_run(mem::replace(&mut scripts, rest));
        }
        for script in scripts {
            self.put_run(vec![script]);
        }
    }

    fn put_run(&mut self, run: Vec<(Body, Answer)>) {
        let mut parts =
            run.iter().filter_map(|(body, _)| if let Body::Script(part) = body { Some(part) } else { None });
        if let Some(first) = parts.next() {
            first.pack(&mut self.out, parts);
            self.awaited.push_back(Awaited::Many(run));
        }
    }

    fn put_head(&mut self, answers: Vec<Answer>) {
        self.out.extend_from_slice(&self.keeping.head);
        self.awaited.push_back(Awaited::Head(answers));
    }

    /// Writes down what stands by itself.
    fn put(&mut self, body: Body, answer: Answer) {
        match body {
            Body::Get(key) => {
                pack(&mut self.out, [&b"GET"[..], &key].into_iter());
                self.awaited.push_back(Awaited::One(answer));
            }
            Body::Script(_) => self.put_run(vec![(body, answer)]),
            Body::Packed(packed) => {
                self.out.extend_from_slice(&packed);
                self.awaited.push_back(Awaited::One(answer));
            }
            Body::Subscribe(packed) => {
                self.out.extend_from_slice(&packed);
                self.awaited.push_back(Awaited::Subscription(answer));
            }
            Body::Head => self.put_head(vec![answer]),
        }
    }

    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(sent);
            self.unflushed = true;
        }
        if self.out.capacity() > ROOM_MAX {
            self.out = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// From now on silence counts.
    fn begin_waiting(&mut self) {
        self.hear(Instant::now());
        // The timer is moved when it is far off only, not for each request.
        let look_at = self.heard_at + LOOK_EVERY.min(self.keeping.doubt_after);
        if self.timer.deadline() > look_at {
            self.timer.as_mut().reset(look_at);
        }
    }

    fn hear(&mut self, now: Instant) {
        (self.heard_at, self.doubt_at) = (now, now + self.keeping.doubt_after);
        self.pulse.heard(now);
    }

    /// Ready when the server has been silent for too long; asks it whether it is there when nothing happens.
    fn keep_time(&mut self, context: &mut Context<'_>) -> Poll<Loss> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if self.awaited.is_empty() && now >= self.heard_at + self.keeping.idle_max {
                pack(&mut self.out, [&b"PING"[..]].into_iter());
                self.awaited.push_back(Awaited::Nobody);
                self.close_batch(0);
                self.hear(now);
                self.ping_alone = true;
                if let Poll::Ready(Err(error)) = self.send(context) {
                    return Poll::Ready(Loss::of(&error));
                }
            }
            let next = if self.awaited.is_empty() {
                self.heard_at + self.keeping.idle_max
            } else {
                let given_up_at = self.heard_at + self.patience();
                if now >= given_up_at {
                    return Poll::Ready(Loss::Silent);
                }
                if now >= self.doubt_at {
                    self.silent.store(true, Ordering::Relaxed);
                    (self.watcher)(News::Silent);
                    self.doubt_at = now + self.keeping.doubt_after;
                }
                // To look, so that whoever asks later knows that there was nothing.
                given_up_at.min(self.doubt_at).min(now + LOOK_EVERY)
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// How long everything may be unanswered.
    fn patience(&self) -> Duration {
        if self.ping_alone {
            // Nothing that could be overtaken is unanswered, so there is no reason to wait for long.
            self.keeping.ping_max.min(self.keeping.silence_max)
        } else {
            self.keeping.silence_max
        }
    }
}

#[derive(PartialEq)]
enum Collected {
    /// All that there was.
    All,
    /// As much as one batch takes.
    Enough,
    /// All, and there will be no more.
    Closed,
}

#[cfg(test)]
mod tests;
