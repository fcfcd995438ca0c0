//! How stories write what the machine says.

use std::time::Duration;

use tideover::core::breaker::{BreakerReport, State};
use tideover::core::stamp::{Condition, Intent, Version};
use tideover::core::time::Text;
use tideover::core::{
    Absence, Answer, Class, Entry, Failure, Invalidation, Outcome, Refusal, Served, Settled, Source, Stale, Step,
    StoreUse, Tier,
};
use tideover::engine::{Key, Payload, Report};

pub(super) fn answer(answer: &Answer<Payload>) -> String {
    match answer {
        Answer::Now(now) => outcome(now),
        Answer::Pending { flight, until, deadline } if until == deadline => {
            format!("waits for {} until {until:?}", flight.0)
        }
        Answer::Pending { flight, until, deadline } => {
            format!("waits for {} until {until:?}, in all until {deadline:?}", flight.0)
        }
        Answer::Refused(why) => format!("refused: {}", refusal(why)),
    }
}

pub(super) fn outcome(outcome: &Outcome<Payload>) -> String {
    match outcome {
        Outcome::Served(value) => format!("served {}", served(value)),
        Outcome::Private(value) => format!("private {}", served(value)),
        Outcome::Absent(Absence::NotLoaded) => "absent".to_owned(),
        Outcome::Absent(Absence::Confirmed) => "absent, says the origin".to_owned(),
        Outcome::Absent(Absence::Remembered { until }) => format!("absent, as remembered until {until:?}"),
        Outcome::Settled(Settled::Memory) => "settled in memory".to_owned(),
        Outcome::Settled(Settled::Store) => "settled in store".to_owned(),
        Outcome::Settled(Settled::Journaled) => "settled in journal".to_owned(),
        Outcome::Settled(Settled::Overtaken) => "settled: overtaken".to_owned(),
        Outcome::Failed(reason) => format!("failed: {}", failure(*reason)),
        Outcome::Again => "look up again".to_owned(),
    }
}

pub(super) fn step(step: &Step<Key, Payload>) -> String {
    match step {
        Step::ReadStore { tier: place, key, deadline } => format!("read {} {key} by {deadline:?}", tier(*place)),
        Step::Load { key, attempt, deadline, previous } => {
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let base = previous.as_ref().map(|previous| format!(", previous {}", entry(previous)));
            format!("load {key} by {deadline:?}{again}{}", base.unwrap_or_default())
        }
        Step::Sleep { until } => format!("sleep until {until:?}"),
        Step::Wait => "wait".to_owned(),
        Step::Land { outcome: landed, store, .. } => {
            let without = match store {
                StoreUse::Unasked | StoreUse::Answered => "",
                StoreUse::Skipped => ", the store skipped",
                StoreUse::Failed => ", the store failed",
            };
            format!("land {}{without}", outcome(landed))
        }
        Step::WriteStore { tier: place, key, entry: written, intent, deadline } => {
            let kept = written.remaining().map_or_else(|| "for ever".to_owned(), |left| format!("for {}", Text(left)));
            format!("write {} {key} {} {kept}{} by {deadline:?}", tier(*place), entry(written), condition(intent))
        }
        Step::RemoveStore { tier: place, key, intent, deadline, .. } => {
            format!("remove {} {key}{} by {deadline:?}", tier(*place), condition(intent))
        }
        Step::InvalidateStore { how, made_ago, deadline, .. } => {
            let expired = if *how == Invalidation::Expire { " as expired" } else { "" };
            let ago = if made_ago.is_zero() { String::new() } else { format!(" since {} ago", Text(*made_ago)) };
            format!("note a tag{expired}{ago} by {deadline:?}")
        }
        Step::AcquireLease { key, ttl, deadline, .. } => format!("lease {key} for {} by {deadline:?}", Text(*ttl)),
        Step::AwaitLease { key, until } => format!("await the lease on {key} until {until:?}"),
        Step::ClearStore { tier: place, deadline } => format!("clear {} by {deadline:?}", tier(*place)),
        Step::Done { .. } => "done".to_owned(),
    }
}

/// What must be true, and how the write is stamped if anything is known of a log.
fn condition(intent: &Intent) -> String {
    let condition = match intent.condition {
        Condition::Always => String::new(),
        Condition::Unchanged(None) => " over nothing".to_owned(),
        Condition::Unchanged(Some(Version { writer, number })) => format!(" over {writer}.{number}"),
        Condition::Newest if intent.made_ago.is_zero() => " if newest".to_owned(),
        Condition::Newest => format!(" if newest since {} ago", Text(intent.made_ago)),
    };
    let born = if intent.born > 0 { format!(" born {}", intent.born) } else { String::new() };
    condition + &born
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::KeyTooLong { bytes, max } => format!("key of {bytes} bytes, {max} are allowed"),
        Refusal::ValueTooLarge { bytes, max } => format!("value of {bytes} bytes, {max} are allowed"),
        Refusal::TooManyTags { tags, max } => format!("{tags} tags, {max} are allowed"),
        Refusal::TagTooLong { bytes, max } => format!("tag of {bytes} bytes, {max} are allowed"),
        Refusal::TooManyWaiters { max } => format!("too many waiters, {max} are allowed"),
        Refusal::TooManyFlights { max } => format!("too many flights, {max} are allowed"),
        Refusal::Reentrant => "reentrant".to_owned(),
    }
}

pub(super) fn health(report: &Report) -> String {
    let circuits = [("store", report.store_breaker.state), ("loader", report.load_breaker.state)];
    let [store, loader] = circuits.map(|(name, state)| format!("{name} {}", circuit(state)));
    let clear = if report.owes_clear { " and a clear" } else { "" };
    format!("{store}, {loader}, owed {}{clear}", report.count("owed"))
}

fn circuit(state: State) -> String {
    match state {
        State::Closed => "closed".to_owned(),
        State::Open { until } => format!("open until {until:?}"),
        State::HalfOpen => "half-open".to_owned(),
    }
}

pub(super) fn breaker(breaker: &BreakerReport) -> Vec<String> {
    let BreakerReport { state, mode, since, next_probe, recovers_until, stats } = breaker;
    let probe = next_probe.map(|at| format!(", next probe at {at:?}")).unwrap_or_default();
    let recovers = recovers_until.map(|until| format!(", recovers until {until:?}")).unwrap_or_default();
    let counts = [
        ("trips", stats.trips),
        ("recoveries", stats.recoveries),
        ("refused", stats.refused),
        ("would refuse", stats.would_refuse),
        ("successes", stats.successes),
        ("failures", stats.failures),
        ("slow", stats.slow),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    let mut said = vec![format!("{}, {}, since {since:?}{probe}{recovers}", circuit(*state), mode.name())];
    if !counts.is_empty() {
        said.push(counts.join(", "));
    }
    said
}

fn served(served: &Served<Payload>) -> String {
    let source = match served.source {
        Source::Memory => "memory",
        Source::Store => "store",
        Source::Fallback => "fallback",
        Source::Load => "load",
    };
    let stale = match served.stale {
        None => "",
        Some(Stale::WhileRevalidate) => ", stale while revalidate",
        Some(Stale::IfError) => ", stale if error",
    };
    format!("{} ({source}, age {}{stale})", value(&served.value), age(served.age, served.ttl))
}

fn entry(entry: &Entry<Payload>) -> String {
    let doubt = if entry.doubted { ", in doubt" } else { "" };
    format!("{} (age {}{doubt})", value(&entry.value), age(entry.age, entry.windows.ttl))
}

fn age(age: Duration, ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| format!("{}, never expires", Text(age)), |ttl| format!("{} of {}", Text(age), Text(ttl)))
}

fn value(value: &Payload) -> String {
    format!("\"{}\"", String::from_utf8_lossy(&value.bytes))
}

fn failure(failure: Failure) -> String {
    match failure {
        Failure::Load(class) => load_failure(class).to_owned(),
        Failure::Remembered { class, until } => format!("{}, as remembered until {until:?}", load_failure(class)),
        Failure::Overloaded => "too many loads".to_owned(),
        Failure::Open { until } => format!("loader's circuit open until {until:?}"),
        Failure::DeadlinePassed => "deadline passed".to_owned(),
        Failure::Abandoned => "abandoned".to_owned(),
    }
}

const fn load_failure(class: Class) -> &'static str {
    match class {
        Class::Unavailable => "origin unavailable",
        Class::TimedOut => "load timed out",
        Class::Answer => "origin answered with an error",
        Class::Isolated => "this key unavailable",
        Class::Panicked => "loader panicked",
    }
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Primary => "primary",
        Tier::Fallback => "fallback",
    }
}
