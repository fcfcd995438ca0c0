//! What a cache tells of itself: events, metrics, health.
