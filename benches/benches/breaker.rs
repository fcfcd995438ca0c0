//! `cargo bench -p tideover-benches --bench breaker`: what a breaker adds to a call, beside peers in one process.
//!
//! The candidates take turns in every round; shown is the median of what each adds to a bare call of the same round.
//! Ours leaves lock and clock to its driver. The peers bring a lock or atomics of their own, and where they read the
//! clock they do it inside; so ours is shown bare, behind a lock, and behind a lock with two readings of the clock.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as Clock};

use failsafe::CircuitBreaker;
use tideover_core::Instant;
use tideover_core::breaker::{Breaker, BreakerPolicy, NotUntil, Permit, Verdict};

/// Many short rounds: on a shared machine few of them are interrupted, and the median shows none of those.
const ROUNDS: usize = 401;
const CALLS: u64 = 10_000;
const QUICK: Duration = Duration::from_micros(10);
const LONG: Duration = Duration::from_secs(3_600);

type Candidate<'a> = (&'static str, Box<dyn FnMut(u64) + 'a>);

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let (rounds, calls) = if quick { (1, 100) } else { (ROUNDS, CALLS) };
    compare("closed, success", rounds, calls, closed());
    compare("open, refusal", rounds, calls, open());
}

/// Runs every candidate in every round and prints the medians over the first, which is the bare call.
fn compare(title: &str, rounds: usize, calls: u64, mut candidates: Vec<Candidate<'_>>) {
    let mut added = vec![Vec::new(); candidates.len()];
    for round in 0..=rounds {
        let costs: Vec<f64> = candidates.iter_mut().map(|(_, run)| nanos_per_call(calls, run)).collect();
        if round > 0 {
            added.iter_mut().zip(&costs).for_each(|(added, cost)| added.push(cost - costs[0]));
        }
    }
    println!("{title}: nanoseconds added to a call, median of {rounds} rounds (middle half)");
    for ((name, _), mut added) in candidates.iter().zip(added).skip(1) {
        added.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarter| added[added.len() * quarter / 4]);
        println!("  {name:<52} {median:>6.1}   ({low:.1} to {high:.1})");
    }
}

fn nanos_per_call(calls: u64, run: &mut dyn FnMut(u64)) -> f64 {
    let start = Clock::now();
    run(calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn call(sum: &mut u64) -> u64 {
    *sum = black_box(sum.wrapping_add(1));
    *sum
}

fn bare<'a>() -> Candidate<'a> {
    let mut sum = 0;
    ("bare call", Box::new(move |n| (0..n).for_each(|_| _ = call(&mut sum))))
}

/// What is in the breaker is unknown to the compiler.
fn acquire(breaker: &mut Breaker, now: Instant) -> Result<Permit, NotUntil> {
    black_box(breaker).try_acquire(now, now)
}

/// Ours as its driver uses it: the breaker at hand, the time known.
fn ours<'a>(name: &'static str, policy: BreakerPolicy) -> Candidate<'a> {
    let (mut breaker, mut sum) = (Breaker::new(policy, 1), 0);
    let run = move |n| {
        let (now, took) = black_box((Instant::from_nanos(1_000_000_000), QUICK));
        (0..n).for_each(|_| {
            if let Ok(permit) = acquire(&mut breaker, now) {
                call(&mut sum);
                black_box(&mut breaker).report(permit, black_box(Verdict::Success), took, now);
            }
        });
    };
    (name, Box::new(run))
}

fn locked<T>(breaker: &Mutex<Breaker>, act: impl FnOnce(&mut Breaker) -> T) -> T {
    act(&mut breaker.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Ours as a whole: a lock for each half of the call, and `clock` for the time before and after.
fn ours_locked<'a>(name: &'static str, clock: impl Fn() -> Instant + 'a) -> Candidate<'a> {
    let (breaker, mut sum) = (Mutex::new(Breaker::new(BreakerPolicy::default(), 1)), 0);
    let run = move |n| {
        (0..n).for_each(|_| {
            let start = clock();
            if let Ok(permit) = locked(&breaker, |breaker| acquire(breaker, start)) {
                call(&mut sum);
                let now = clock();
                locked(&breaker, |breaker| breaker.report(permit, black_box(Verdict::Success), now - start, now));
            }
        });
    };
    (name, Box::new(run))
}

fn closed<'a>() -> Vec<Candidate<'a>> {
    let default = BreakerPolicy::default();
    let slow = BreakerPolicy { slow_call: Duration::from_secs(1), slow_call_rate: 50, ..default };
    let still = Instant::from_nanos(1_000_000_000);
    let zero = Clock::now();
    let failsafe = failsafe::Config::new().build();
    let in_a_row = failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(LONG));
    let failsafe_in_a_row = failsafe::Config::new().failure_policy(in_a_row).build();
    let recloser = recloser::Recloser::default();
    let (mut sum, mut sum_in_a_row, mut sum_recloser) = (0, 0, 0);
    vec![
        bare(),
        ours("tideover, failures in a row", BreakerPolicy { failure_rate: 0, ..default }),
        ours("tideover, default (and failure rate over 10 s)", default),
        ours("tideover, default and slow-call rate", slow),
        ours("tideover, all rates over 100 calls", BreakerPolicy { window_calls: 100, ..slow }),
        ours_locked("tideover, default, locked", move || black_box(still)),
        ours_locked("tideover, default, locked, clock read twice", move || {
            Instant::from_nanos(zero.elapsed().as_nanos() as u64)
        }),
        (
            "failsafe, failures in a row",
            Box::new(move |n| {
                (0..n).for_each(|_| _ = black_box(failsafe_in_a_row.call(|| Ok::<_, ()>(call(&mut sum_in_a_row)))));
            }),
        ),
        (
            "failsafe, default (and success rate over 30 s)",
            Box::new(move |n| (0..n).for_each(|_| _ = black_box(failsafe.call(|| Ok::<_, ()>(call(&mut sum)))))),
        ),
        (
            "recloser, default (failure rate over 100 calls)",
            Box::new(move |n| {
                (0..n).for_each(|_| _ = black_box(recloser.call(|| Ok::<_, ()>(call(&mut sum_recloser)))));
            }),
        ),
    ]
}

fn open<'a>() -> Vec<Candidate<'a>> {
    let now = Instant::from_nanos(1_000_000_000);
    let mut breaker = Breaker::new(BreakerPolicy { consecutive_failures: 1, ..BreakerPolicy::default() }, 1);
    if let Ok(permit) = breaker.try_acquire(now, now) {
        breaker.report(permit, Verdict::Failure, QUICK, now);
    }
    assert!(breaker.try_acquire(now, now).is_err(), "it is open");
    let shared = Mutex::new(breaker.clone());
    let once = failsafe::failure_policy::consecutive_failures(1, failsafe::backoff::constant(LONG));
    let failsafe = failsafe::Config::new().failure_policy(once).build();
    let recloser = recloser::Recloser::custom().closed_len(1).open_wait(LONG).build();
    for _ in 0..3 {
        _ = failsafe.call(|| Err::<(), _>(()));
        _ = recloser.call(|| Err::<(), _>(()));
    }
    assert!(!failsafe.is_call_permitted(), "it is open");
    assert!(matches!(recloser.call(|| Ok::<_, ()>(())), Err(recloser::Error::Rejected)), "it is open");
    let refused = |answer: Result<Permit, NotUntil>| assert!(black_box(answer).is_err());
    vec![
        bare(),
        ("tideover", Box::new(move |n| (0..n).for_each(|_| refused(acquire(&mut breaker, now))))),
        (
            "tideover, locked",
            Box::new(move |n| (0..n).for_each(|_| refused(locked(&shared, |breaker| acquire(breaker, now))))),
        ),
        (
            "failsafe",
            Box::new(move |n| (0..n).for_each(|_| _ = black_box(failsafe.call(|| Ok::<_, ()>(black_box(1)))))),
        ),
        (
            "recloser",
            Box::new(move |n| (0..n).for_each(|_| _ = black_box(recloser.call(|| Ok::<_, ()>(black_box(1)))))),
        ),
    ]
}
