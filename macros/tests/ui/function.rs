//! Functions that cannot be cached.

use std::fmt::Display;

use tideover::cached;

trait Users {
    #[cached]
    async fn user(&self, id: u64) -> u64;
}

#[cached]
const fn constant(id: u64) -> u64 {
    id
}

#[cached]
unsafe fn dangerous(id: u64) -> u64 {
    id
}

#[cached]
async fn changing(list: &mut Vec<u64>) -> u64 {
    list.len() as u64
}

#[cached]
async fn borrowing(names: &[&str]) -> u64 {
    names.len() as u64
}

#[cached]
async fn opaque(id: u64) -> impl Display {
    id
}

#[cached]
async fn lent(name: &str) -> &str {
    name
}

#[cached]
struct NoFunction;

fn main() {}
