//! Direct operations: flies the works of their machine, and speaks the words of the interface.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use tideover_core::direct::{
    Ability, Answer, Cursor, Event, Fault, Heard, Key, Operation, Page, Remaining, Reply, Request, Step, Unanswered,
    When, WorkId,
};

use super::table::Table;
use super::{Component, now, with};
use crate::bindings::exports::tideover::cache::direct as wit;
use crate::bindings::tideover::cache::direct_types as words;
use crate::bindings::tideover::cache::{direct_store as store, types};
use crate::convert::nanos;

/// Values, shared inside the instance.
pub(super) type Value = Arc<[u8]>;

/// The machine of this world.
pub(super) type Direct = tideover_core::direct::Direct<Value>;

/// What the interface answers.
type Answered<T> = Result<(T, types::Source), words::Unanswered>;

impl wit::Guest for Component {
    async fn get(key: String) -> Answered<Option<Vec<u8>>> {
        call(Request::Get { key: key.into() }, value).await
    }

    async fn get_many(keys: Vec<String>) -> Answered<Vec<Option<Vec<u8>>>> {
        let bytes =
            |reply: Reply<Value>| reply.values().into_iter().map(|value| value.map(|value| value.to_vec())).collect();
        call(Request::GetMany { keys: shared(keys) }, bytes).await
    }

    async fn exists(key: String) -> Answered<bool> {
        call(Request::Exists { key: key.into() }, Reply::held).await
    }

    async fn put(key: String, value: Vec<u8>, ttl: Option<u64>, when: words::When) -> Answered<bool> {
        call(Request::Put { key: key.into(), value: value.into(), ttl: duration(ttl), when: when.into() }, Reply::held)
            .await
    }

    async fn put_many(entries: Vec<(String, Vec<u8>)>, ttl: Option<u64>) -> Result<types::Source, words::Unanswered> {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        done(call(Request::PutMany { entries, ttl: duration(ttl) }, drop).await)
    }

    async fn take(key: String) -> Answered<Option<Vec<u8>>> {
        call(Request::Take { key: key.into() }, value).await
    }

    async fn remove(key: String) -> Answered<bool> {
        call(Request::Remove { key: key.into() }, Reply::held).await
    }

    async fn remove_many(keys: Vec<String>) -> Answered<u64> {
        call(Request::RemoveMany { keys: shared(keys) }, Reply::count).await
    }

    async fn increment(key: String, by: i64, ttl: Option<u64>) -> Answered<i64> {
        call(Request::Increment { key: key.into(), by, ttl: duration(ttl) }, Reply::sum).await
    }

    async fn set_ttl(key: String, ttl: Option<u64>) -> Answered<bool> {
        call(Request::SetTtl { key: key.into(), ttl: duration(ttl) }, Reply::held).await
    }

    async fn remaining(key: String) -> Answered<words::Lifetime> {
        call(Request::Remaining { key: key.into() }, |reply| reply.remaining().into()).await
    }

    async fn scan(pattern: String, cursor: String, count: u32) -> Answered<words::Page> {
        let (cursor, count) = (Cursor::new(cursor), count as usize);
        call(Request::Scan { pattern: pattern.into(), cursor, count }, |reply| reply.page().into()).await
    }

    async fn remove_matching(pattern: String) -> Answered<u64> {
        call(Operation::RemoveMatching { pattern: pattern.into() }, Reply::count).await
    }

    async fn clear() -> Result<types::Source, words::Unanswered> {
        done(call(Operation::Clear, drop).await)
    }

    async fn ping() -> Result<types::Source, words::Unanswered> {
        done(call(Request::Ping, drop).await)
    }

    async fn pay_up() -> u64 {
        // Whoever pays already may be about to give up.
        for _ in 0..2 {
            let now = now();
            with(|table| table.direct.pay_up(now));
            with(Table::rest).receive().await;
            if with(|table| table.direct.owed()) == 0 {
                break;
            }
        }
        with(|table| table.direct.owed()) as u64
    }

    fn stats() -> Vec<types::Count> {
        let stats = with(|table| table.direct.stats());
        stats.counts().map(|(name, value)| types::Count { name: String::from(name), value }).collect()
    }

    fn circuit() -> types::Breaker {
        with(|table| table.direct.look()).into()
    }

    fn set_circuit_mode(mode: types::BreakerMode) {
        let now = now();
        with(|table| table.direct.set_breaker_mode(mode.into(), now));
    }

    fn reset_circuit() {
        let now = now();
        with(|table| table.direct.reset_breaker(now));
    }
}

/// An operation of a caller, and of its reply what he gets.
async fn call<T>(operation: impl Into<Operation<Value>>, of: impl FnOnce(Reply<Value>) -> T) -> Answered<T> {
    let Answer { reply, source } = fly_call(operation.into()).await?;
    Ok((of(reply), source.into()))
}

async fn fly_call(operation: Operation<Value>) -> Result<Answer<Value>, words::Unanswered> {
    if with(|table| table.cache.policy().store) && !can(operation.needs()) {
        return Err(words::Unanswered::ByStore);
    }
    let now = now();
    let (work, mut step) = with(|table| table.direct.begin(operation, now));
    loop {
        step = match step {
            Step::Done(answered) => return answered.map_err(Into::into),
            Step::Over => return Err(words::Unanswered::OutcomeUnknown),
            step => do_step(work, step).await,
        };
    }
}

/// What the machine has launched by itself.
pub(super) async fn fly(work: WorkId, mut step: Step<Value>) {
    while !matches!(step, Step::Done(_) | Step::Over) {
        step = do_step(work, step).await;
    }
}

/// Does one step, and gets the next.
async fn do_step(work: WorkId, step: Step<Value>) -> Step<Value> {
    let event = match step {
        Step::Ask { request, with_end, deadline, .. } => {
            Event::Answered(ask(request, with_end, deadline.as_nanos()).await)
        }
        Step::Wait { until } => {
            with(|table| table.wait_until_paid(work, until)).receive().await;
            Event::Waited
        }
        over => return over,
    };
    let now = now();
    with(|table| table.direct.resume(work, event, now))
}

fn can(needs: &[Ability]) -> bool {
    let able = if needs.is_empty() { words::Abilities::empty() } else { store::can() };
    needs.iter().all(|need| {
        able.contains(match need {
            Ability::Conditional => words::Abilities::CONDITIONAL,
            Ability::Batch => words::Abilities::BATCH,
            Ability::Counters => words::Abilities::COUNTERS,
            Ability::Ttl => words::Abilities::TTL,
            Ability::Scan => words::Abilities::SCAN,
        })
    })
}

/// Asks the host's store.
async fn ask(request: Request<Value>, with_end: bool, deadline: u64) -> Result<Heard<Value>, Fault> {
    let mut left = None;
    let reply = match request {
        Request::Get { key } => {
            let (value, end) = store::get(owned(&key), with_end, deadline).await?;
            left = end;
            Reply::Value(value.map(Into::into))
        }
        Request::GetMany { keys } => {
            let values = store::get_many(keys.iter().map(owned).collect(), deadline).await?;
            Reply::Values(values.into_iter().map(|value| value.map(Into::into)).collect())
        }
        Request::Exists { key } => Reply::Held(store::exists(owned(&key), deadline).await?),
        Request::Put { key, value, ttl, when } => {
            Reply::Held(store::put(owned(&key), value.to_vec(), ttl.map(nanos), when.into(), deadline).await?)
        }
        Request::PutMany { entries, ttl } => {
            let entries = entries.iter().map(|(key, value)| (owned(key), value.to_vec())).collect();
            store::put_many(entries, ttl.map(nanos), deadline).await?;
            Reply::Done
        }
        Request::Take { key } => Reply::Value(store::take(owned(&key), deadline).await?.map(Into::into)),
        Request::Remove { key } => Reply::Held(store::remove(owned(&key), deadline).await?),
        Request::RemoveMany { keys } => {
            Reply::Count(store::remove_many(keys.iter().map(owned).collect(), deadline).await?)
        }
        Request::Increment { key, by, ttl } => {
            let (sum, end) = store::increment(owned(&key), by, ttl.map(nanos), with_end, deadline).await?;
            left = end;
            Reply::Sum(sum)
        }
        Request::SetTtl { key, ttl } => Reply::Held(store::set_ttl(owned(&key), ttl.map(nanos), deadline).await?),
        Request::Remaining { key } => Reply::Remaining(store::remaining(owned(&key), deadline).await?.into()),
        Request::Scan { pattern, cursor, count } => {
            let (cursor, count) = (String::from(cursor.as_str()), u32::try_from(count).unwrap_or(u32::MAX));
            Reply::Page(store::scan(owned(&pattern), cursor, count, deadline).await?.into())
        }
        Request::Ping => {
            store::ping(deadline).await?;
            Reply::Done
        }
    };
    Ok(Heard { reply, left: left.map(Into::into) })
}

fn owned(key: &Key) -> String {
    String::from(&**key)
}

fn shared(keys: Vec<String>) -> Vec<Key> {
    keys.into_iter().map(Key::from).collect()
}

fn duration(nanos: Option<u64>) -> Option<Duration> {
    nanos.map(Duration::from_nanos)
}

fn value(reply: Reply<Value>) -> Option<Vec<u8>> {
    reply.value().map(|value| value.to_vec())
}

fn done(answered: Answered<()>) -> Result<types::Source, words::Unanswered> {
    answered.map(|((), source)| source)
}

impl From<words::When> for When {
    fn from(when: words::When) -> Self {
        match when {
            words::When::Always => Self::Always,
            words::When::Absent => Self::Absent,
            words::When::Present => Self::Present,
        }
    }
}

impl From<When> for words::When {
    fn from(when: When) -> Self {
        match when {
            When::Always => Self::Always,
            When::Absent => Self::Absent,
            When::Present => Self::Present,
        }
    }
}

impl From<words::Lifetime> for Remaining {
    fn from(left: words::Lifetime) -> Self {
        match left {
            words::Lifetime::NoSuchKey => Self::NoSuchKey,
            words::Lifetime::Forever => Self::Forever,
            words::Lifetime::Left(left) => Self::Left(Duration::from_nanos(left)),
        }
    }
}

impl From<Remaining> for words::Lifetime {
    fn from(left: Remaining) -> Self {
        match left {
            Remaining::NoSuchKey => Self::NoSuchKey,
            Remaining::Forever => Self::Forever,
            Remaining::Left(left) => Self::Left(nanos(left)),
        }
    }
}

impl From<words::Page> for Page {
    fn from(words::Page { keys, next }: words::Page) -> Self {
        Self { keys, next: next.map(Cursor::new) }
    }
}

impl From<Page> for words::Page {
    fn from(Page { keys, next }: Page) -> Self {
        Self { keys, next: next.map(|next| String::from(next.as_str())) }
    }
}

impl From<words::Fault> for Fault {
    fn from(fault: words::Fault) -> Self {
        match fault {
            words::Fault::Unavailable => Self::Unavailable,
            words::Fault::Uncertain => Self::Uncertain,
            words::Fault::TimedOut => Self::TimedOut,
            words::Fault::Overloaded => Self::Overloaded,
            words::Fault::Congested => Self::Congested,
            words::Fault::Unsupported => Self::Unsupported,
            words::Fault::Refused => Self::Refused,
        }
    }
}

impl From<Unanswered> for words::Unanswered {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Refused(refusal) => Self::Refused(refusal.into()),
            Unanswered::ByStore => Self::ByStore,
            Unanswered::Cursor => Self::Cursor,
            Unanswered::NotANumber => Self::NotANumber,
            Unanswered::NumberTooLarge => Self::NumberTooLarge,
            Unanswered::Away(store) => Self::Away(store.into()),
            Unanswered::JournalFull { max } => Self::JournalFull(max),
            // This world closes nothing.
            Unanswered::OutcomeUnknown | Unanswered::Closed => Self::OutcomeUnknown,
        }
    }
}
