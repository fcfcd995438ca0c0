//! What a cache does, told on a virtual clock: each module is about one of its rooms. One program, since programs take longer
//! to build than to run.

mod config;
mod driver;
mod driver_store;
mod gateway;
mod matching;
mod observe;
mod operate;
mod scenarios;
mod store_required;
mod testing_kit;
mod typed;
mod web;
mod web_axum;
mod web_clients;
mod writes;
