//! What tests of drivers under paused time share.

use std::time::Duration;

use tideover::{Builder, EngineKind, testing};
use tokio::time::Instant;

/// The engines under the tokio driver. The third one has a driver and a clock of its own.
pub const ENGINES: &[EngineKind] = &[
    EngineKind::Native,
    #[cfg(feature = "component")]
    EngineKind::Policy,
];

/// So many seconds.
#[must_use]
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many milliseconds.
#[must_use]
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A cache to be made in which nothing is left to chance: no jitter, and these options.
///
/// # Panics
///
/// When one of them cannot be.
#[must_use]
pub fn exact(engine: EngineKind, options: &[(&str, &str)]) -> Builder {
    let exact = testing::builder().engine(engine);
    options.iter().fold(exact, |builder, (option, text)| builder.set(option, text).expect("an option"))
}

/// Whether `time` passed since then, give or take the ticks of tokio's timers.
#[must_use]
pub fn about(began: Instant, time: Duration) -> bool {
    let passed = began.elapsed();
    passed >= time && passed <= time + millis(5)
}
