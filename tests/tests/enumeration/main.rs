//! Every history of a few small situations, none left out.
//!
//! [`one_flight`] answers each step of one flight in every way there is; [`interleavings`] lets several callers change and
//! read one key, and answers their steps in every order. Each test asserts how many histories it has seen, so that a
//! change which silently cuts an enumeration short fails.

mod interleavings;
mod one_flight;
