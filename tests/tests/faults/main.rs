//! Faults of a real Redis and of the network before it, under a steady load: what callers notice, what is lost, and
//! when it is over. `cargo test --test faults -- --nocapture` shows one line for each.
//!
//! Most faults last for some seconds of the real clock, as servers and networks know no other. What is measured is
//! held against generous bounds only.

mod crowd;
mod network;
mod refusal;
mod server;
mod trial;
