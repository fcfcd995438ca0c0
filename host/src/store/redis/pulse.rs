//! Whose time it was: when a request has no answer by its deadline, whether the server had its chance, or the request stood in
//! a queue of this process's own.
//!
//! A process that has more to do than it can do sends late, and looks late at what has come. Neither says anything of the
//! server. So what counts against that is only for how long a request had been sent when we last looked and found nothing, or,
//! for one that could not be sent, for how long the server had been silent by then. To be able to say so, a connection
//! looks every [`LOOK_EVERY`] while something is unanswered.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::lock;
use super::request::Effect;

/// How often a connection looks for answers at least.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Of what is allowed less than this, looks cannot tell. Where that is the rule, it counts against the server; where it is what
/// others have left of more, it does not.
const TOLD_FROM: Duration = Duration::from_millis(100);

/// How much time somebody is allowed as a rule: the most so far.
#[derive(Default)]
struct Rule(AtomicU64);

impl Rule {
    /// Whether the server is to blame for having been silent for so long out of what was allowed.
    fn blames(&self, silent: Duration, allowed: Duration) -> bool {
        let nanos = u64::try_from(allowed.as_nanos()).unwrap_or(u64::MAX);
        let most = self.0.fetch_max(nanos, Ordering::Relaxed).max(nanos);
        if allowed < TOLD_FROM { nanos >= most / 2 } else { silent >= allowed / 2 }
    }
}

/// What a connection has sent when, and when it has looked for answers.
pub(super) struct Pulse {
    born: Instant,
    /// Requests that were asked for.
    asked: AtomicU64,
    /// Since its birth, in nanoseconds: when the server last said something, or the waiting for it began.
    heard_at: AtomicU64,
    /// When we last took in all that had come.
    looked_at: AtomicU64,
    reads: Rule,
    changes: Rule,
    /// The batches that are unanswered: the number of the last request in each, and when it left.
    departures: Mutex<VecDeque<(u64, Instant)>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            asked: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            reads: Rule::default(),
            changes: Rule::default(),
            departures: Mutex::default(),
        }
    }
}

impl Pulse {
    /// The number of a new request.
    pub(super) fn next(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn heard(&self, now: Instant) {
        self.heard_at.store(self.nanos(now), Ordering::Relaxed);
    }

    pub(super) fn looked(&self, now: Instant) {
        self.looked_at.store(self.nanos(now), Ordering::Relaxed);
    }

    /// A batch that ends with the request `last` has left.
    pub(super) fn left(&self, last: u64, now: Instant) {
        lock(&self.departures).push_back((last, now));
    }

    /// The oldest batch was answered. When it had left.
    pub(super) fn answered(&self) -> Option<Instant> {
        lock(&self.departures).pop_front().map(|(_, left_at)| left_at)
    }

    /// Whether the server has had enough of the time from `asked_at` to `now` for the request `number`: half of it.
    pub(super) fn had_its_time(&self, number: u64, effect: Effect, asked_at: Instant, now: Instant) -> bool {
        let allowed = now.saturating_duration_since(asked_at);
        let left_at = lock(&self.departures).iter().find(|(last, _)| *last >= number).map(|(_, at)| *at);
        let since = left_at.unwrap_or_else(|| asked_at.max(self.at(&self.heard_at)));
        let waited = self.at(&self.looked_at).saturating_duration_since(since);
        let rule = if effect == Effect::Read { &self.reads } else { &self.changes };
        rule.blames(waited, allowed)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    fn at(&self, moment: &AtomicU64) -> Instant {
        self.born + Duration::from_nanos(moment.load(Ordering::Relaxed))
    }
}

/// For how long somebody has been seen to work at something: the time between looks that came as often as they should.
#[derive(Default)]
pub(super) struct Attention {
    nanos: AtomicU64,
    rule: Rule,
}

impl Attention {
    /// Runs `work`, and looks after it.
    pub(super) async fn pay<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = looks.tick() => {}
            }
            let between = looked_at.elapsed();
            looked_at = Instant::now();
            if between <= 2 * LOOK_EVERY {
                let nanos = u64::try_from(between.as_nanos()).unwrap_or(0);
                self.nanos.fetch_add(nanos, Ordering::Relaxed);
            }
        }
    }

    /// How much there was so far.
    pub(super) fn paid(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// Whether whoever waited from `asked_at` to `now`, when so much had been `paid` before, was waiting for somebody else.
    pub(super) fn was_paid(&self, paid: Duration, asked_at: Instant, now: Instant) -> bool {
        let allowed = now.saturating_duration_since(asked_at);
        self.rule.blames(self.paid().saturating_sub(paid), allowed)
    }
}

/// What `future` brings by `deadline`. That has passed when the clock says so, not when a timer does: so whoever else keeps
/// the same deadline for this, and is woken first, finds it over.
pub(super) async fn by<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut timer) = (pin!(future), pin!(sleep_until(deadline)));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if timer.as_mut().poll(context).is_ready() || Instant::now() >= deadline => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const ALLOWED: Duration = Duration::from_millis(250);

    /// A request that was asked for at once, left after `left`, if ever, and has had no answer when we last looked.
    async fn had_its_time(left: Option<u64>, heard: u64, looked: u64) -> bool {
        let (pulse, asked_at) = (Pulse::default(), Instant::now());
        let at = |millis| asked_at + Duration::from_millis(millis);
        let (earlier, number) = (pulse.next(), pulse.next());
        pulse.left(earlier, asked_at);
        if let Some(left) = left {
            pulse.left(number, at(left));
        }
        pulse.heard(at(heard));
        pulse.looked(at(looked));
        advance(ALLOWED).await;
        pulse.had_its_time(number, Effect::Read, asked_at, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_our_own_queue_is_not_the_servers() {
        assert!(had_its_time(Some(0), 0, 240).await);
        assert!(had_its_time(Some(100), 0, 225).await);
        assert!(!had_its_time(Some(101), 0, 225).await, "it left late");
        assert!(!had_its_time(Some(0), 0, 124).await, "we did not look");
        assert!(had_its_time(None, 100, 240).await, "it could not leave, because the server was silent");
        assert!(!had_its_time(None, 200, 240).await, "it could not leave, because there was so much before it");
    }

    #[tokio::test(start_paused = true)]
    async fn of_short_deadlines_nobody_can_tell() {
        let (pulse, asked_at) = (Pulse::default(), Instant::now());
        let number = pulse.next();
        let after =
            |effect, millis| pulse.had_its_time(number, effect, asked_at, asked_at + Duration::from_millis(millis));
        assert!(after(Effect::Read, 10), "it is the rule");
        assert!(after(Effect::Read, 99));
        assert!(!after(Effect::Read, 49), "it is what is left of more");
        assert!(!after(Effect::Read, 100), "here looks can tell");
        assert!(after(Effect::Write, 10), "changes have a rule of their own");
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_batches_makes_room_for_the_next() {
        let (pulse, asked_at) = (Pulse::default(), Instant::now());
        let (first, second) = (pulse.next(), pulse.next());
        pulse.left(first, asked_at);
        advance(Duration::from_millis(200)).await;
        pulse.answered();
        pulse.left(second, Instant::now());
        advance(Duration::from_millis(50)).await;
        pulse.looked(Instant::now());
        let had_its_time = |asked_at| pulse.had_its_time(second, Effect::Read, asked_at, Instant::now());
        assert!(!had_its_time(asked_at));
        assert!(had_its_time(asked_at + Duration::from_millis(150)));
    }

    #[tokio::test(start_paused = true)]
    async fn attention_is_what_was_seen_of_the_work() {
        let attention = Attention::default();
        let began = Instant::now();
        attention.pay(sleep(ALLOWED)).await;
        assert!(attention.was_paid(Duration::ZERO, began, Instant::now()), "{:?}", attention.paid());
        let (paid, began) = (attention.paid(), Instant::now());
        // The process has other things to do for most of the time.
        let busy = async {
            for _ in 0..2 {
                advance(ALLOWED / 2).await;
            }
        };
        attention.pay(busy).await;
        assert!(!attention.was_paid(paid, began, Instant::now()), "{:?}", attention.paid() - paid);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_with_the_deadline_is_over_by_the_clock() {
        let deadline = Instant::now() + ALLOWED;
        assert_eq!(by(deadline, sleep(ALLOWED / 2)).await, Some(()));
        assert_eq!(by(deadline, std::future::pending::<()>()).await, None);
        assert_eq!((Instant::now(), by(deadline, std::future::ready(())).await), (deadline, Some(())));
    }
}
