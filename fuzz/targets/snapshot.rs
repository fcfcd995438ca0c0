//! Snapshots from anywhere: refused, or restored into a cache that goes on working.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use tideover_core::cache::snapshot::Taken;
use tideover_core::{Answer, Cache, Call, Instant, Policy, WallTime};

fuzz_target!(|bytes: &[u8]| {
    let now = Instant::ZERO + Duration::from_secs(3_600);
    let wall = WallTime::from_unix_millis(1_700_000_000_000);
    let sealed = [&b"ts\x01"[..], &crc32fast::hash(bytes).to_le_bytes(), bytes].concat();
    for (bytes, taken) in [(bytes, Taken::Last), (&sealed, Taken::Last), (&sealed, Taken::Earlier)] {
        let mut policy = Policy::default();
        policy.store = true;
        let mut cache: Cache<String, String> = Cache::new(policy, 1).expect("the usual policy");
        if cache.restore(bytes, taken, now, wall).is_ok() {
            let day = now + Duration::from_secs(86_400);
            let lookup = cache.lookup(&"key".to_owned(), Call::default(), day);
            assert!(matches!(lookup.answer, Answer::Now(_) | Answer::Pending { .. }), "a restored cache answers");
            let _copy = cache.snapshot(day, wall);
        }
    }
});
