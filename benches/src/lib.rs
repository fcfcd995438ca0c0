//! The harness: candidates of a row take turns in rounds, and what counts is the median over the rounds.

use std::time::Instant;

/// Rounds that each candidate runs.
pub const ROUNDS: usize = 9;

/// One candidate of a row: its name, and the work of so many calls.
pub type Candidate<'a> = (&'static str, Box<dyn FnMut(u64) + 'a>);

/// Runs the candidates in turns of so many calls, and prints for each the median time of a call, in nanoseconds and as
/// a ratio to the first candidate.
pub fn compare(row: &str, calls: u64, mut candidates: Vec<Candidate<'_>>) {
    let mut times = vec![Vec::new(); candidates.len()];
    for _ in 0..ROUNDS {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let began = Instant::now();
            (candidate.1)(calls);
            times.push(began.elapsed());
        }
    }
    let mut first = None;
    for ((name, _), times) in candidates.iter().zip(&mut times) {
        times.sort_unstable();
        let nanos = times[ROUNDS / 2].as_nanos() as f64 / calls as f64;
        let first = *first.get_or_insert(nanos);
        println!("{row:<28} {name:<24} {nanos:>8.1} ns {:>6.2}x", nanos / first);
    }
}
