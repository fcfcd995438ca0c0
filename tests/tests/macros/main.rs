//! `#[cached]` and `#[invalidates]` as their users see them.

mod asynchronous;
mod blocking;
mod database;
mod keys;
mod methods;
mod options;
mod writes;
