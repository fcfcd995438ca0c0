//! `cargo run --release -p tideover-benches --example hit_ratios -- [FOLDER OF TRACES] [DOCUMENT]`: how often each policy of
//! eviction hits on real traces, beside first-in-first-out, the best possible (Belady), and peers.
//!
//! Each key is asked for once and inserted if it was not there; all entries have the same size; capacities are shares
//! of the number of different keys, and those under 64 are left out. "Cut" is how much of the misses of FIFO a policy
//! avoids. With a document, the table is written between its two markers.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::{Entry, Eviction, Instant, Windows};

const SHARES: [f64; 5] = [0.001, 0.01, 0.05, 0.10, 0.25];
const SMALLEST: usize = 64;
const BEGIN: &str = "<!-- hit ratios: begin -->";
const END: &str = "<!-- hit ratios: end -->";

/// A name, and the keys asked for.
type Trace = (String, Vec<u64>);

/// The number of hits of a cache of that capacity.
type Run = fn(&[u64], usize) -> u64;

const CANDIDATES: [(&str, Run); 8] = [
    ("FIFO", fifo),
    ("LRU", |trace, capacity| ours(trace, capacity, Eviction::Lru)),
    ("SIEVE", |trace, capacity| ours(trace, capacity, Eviction::Sieve)),
    ("S3-FIFO", |trace, capacity| ours(trace, capacity, Eviction::S3Fifo)),
    ("W-TinyLFU", |trace, capacity| ours(trace, capacity, Eviction::WTinyLfu)),
    ("quick_cache", quick_cache),
    ("moka", moka),
    ("optimum", optimum),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "../shared/traces".to_owned());
    let table = table(&traces(Path::new(&folder))?);
    print!("{table}");
    if let Some(path) = arguments.next() {
        let document = fs::read_to_string(&path)?;
        let (before, rest) = document.split_once(BEGIN).ok_or("the document has no marker where the table begins")?;
        let (_, after) = rest.split_once(END).ok_or("the document has no marker where the table ends")?;
        fs::write(&path, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    }
    Ok(())
}

fn table(traces: &[Trace]) -> String {
    let names: Vec<&str> = CANDIDATES.iter().map(|(name, _)| *name).collect();
    let mut text = format!("| trace | entries | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let mut points: Vec<Vec<f64>> = Vec::new();
    for (name, trace) in traces {
        let keys = trace.iter().collect::<HashSet<_>>().len();
        for capacity in SHARES.map(|share| (keys as f64 * share) as usize).into_iter().filter(|&c| c >= SMALLEST) {
            let ratio = |(_, run): &(&str, Run)| 100.0 * run(trace, capacity) as f64 / trace.len() as f64;
            let ratios: Vec<f64> = CANDIDATES.iter().map(ratio).collect();
            let shown: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {capacity} | {} |", shown.join(" | "));
            points.push(ratios);
        }
    }
    text + &summary(&points)
}

/// The mean cut against the first candidate, and the worst distance to the second.
fn summary(points: &[Vec<f64>]) -> String {
    let (mut cuts, mut worst) = (String::new(), String::new());
    for candidate in 0..CANDIDATES.len() {
        let cut = |ratios: &Vec<f64>| 100.0 * (ratios[candidate] - ratios[0]) / (100.0 - ratios[0]);
        let mean = points.iter().map(cut).sum::<f64>() / points.len() as f64;
        let under_lru = points.iter().map(|ratios| ratios[candidate] - ratios[1]).fold(f64::INFINITY, f64::min);
        let _ = write!(cuts, " {mean:.1} % |");
        let _ = write!(worst, " {under_lru:+.1} |");
    }
    format!("| **mean cut against FIFO** | |{cuts}\n| **worst point against LRU** | |{worst}\n")
}

fn traces(folder: &Path) -> Result<Vec<Trace>, Box<dyn Error>> {
    let mut names: Vec<_> = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    let mut traces = Vec::new();
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        match name.rsplit_once('.') {
            Some((_, "gz")) => {
                flate2::read::MultiGzDecoder::new(File::open(entry.path())?).read_to_end(&mut bytes)?;
            }
            Some((_, "xz")) => {
                lzma_rs::xz_decompress(&mut BufReader::new(File::open(entry.path())?), &mut bytes)?;
            }
            _ => continue,
        }
        traces.push((name.split('.').next().unwrap_or_default().to_owned(), keys(&name, &bytes)));
    }
    Ok(traces)
}

/// Big-endian numbers of 32 or 64 bits, or text, by the name of the trace.
fn keys(name: &str, bytes: &[u8]) -> Vec<u64> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    if name.starts_with("cache2k") {
        bytes.chunks_exact(4).map(number).collect()
    } else if name.starts_with("corda") {
        bytes.chunks_exact(8).map(number).collect()
    } else {
        String::from_utf8_lossy(bytes).lines().filter_map(|line| line.trim().parse().ok()).collect()
    }
}

fn ours(trace: &[u64], capacity: usize, eviction: Eviction) -> u64 {
    let mut memory: Memory<u64, ()> =
        Memory::new(MemoryPolicy { entries_max: capacity as u32, eviction, ..MemoryPolicy::default() });
    for key in trace {
        if memory.fresh(key, Instant::ZERO).is_none() {
            memory.insert(*key, Entry::new((), Windows::FOREVER), 0, Instant::ZERO);
        }
    }
    memory.stats().hits
}

fn fifo(trace: &[u64], capacity: usize) -> u64 {
    let (mut held, mut order, mut hits) = (HashSet::new(), VecDeque::new(), 0);
    for key in trace {
        if !held.insert(*key) {
            hits += 1;
            continue;
        }
        order.push_back(*key);
        if held.len() > capacity {
            order.pop_front().map(|oldest| held.remove(&oldest));
        }
    }
    hits
}

/// Gives up whose next use is farthest away (Belady, "A study of replacement algorithms", 1966).
fn optimum(trace: &[u64], capacity: usize) -> u64 {
    let mut next_use = vec![usize::MAX; trace.len()];
    let mut seen = HashMap::new();
    for (at, key) in trace.iter().enumerate().rev() {
        next_use[at] = seen.insert(*key, at).unwrap_or(usize::MAX);
    }
    let (mut held, mut order, mut hits) = (HashMap::new(), BTreeSet::new(), 0);
    for (at, key) in trace.iter().enumerate() {
        if let Some(used) = held.insert(*key, next_use[at]) {
            order.remove(&(used, *key));
            hits += 1;
        } else if held.len() > capacity
            && let Some((_, farthest)) = order.pop_last()
        {
            held.remove(&farthest);
        }
        order.insert((next_use[at], *key));
    }
    hits
}

fn quick_cache(trace: &[u64], capacity: usize) -> u64 {
    let mut cache = quick_cache::unsync::Cache::new(capacity);
    let mut hits = 0;
    for key in trace {
        match cache.get(key) {
            Some(()) => hits += 1,
            None => cache.insert(*key, ()),
        }
    }
    hits
}

fn moka(trace: &[u64], capacity: usize) -> u64 {
    let cache = moka::sync::Cache::new(capacity as u64);
    let mut hits = 0;
    for (at, key) in trace.iter().enumerate() {
        match cache.get(key) {
            Some(()) => hits += 1,
            None => cache.insert(*key, ()),
        }
        // Its work behind the calls is done now and then by itself; often enough that its bound holds.
        if at % 16 == 0 {
            cache.run_pending_tasks();
        }
    }
    hits
}
