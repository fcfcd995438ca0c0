//! Functions that cannot be cached.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

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
async fn text(id: u64) -> Result<Arc<str>, String> {
    Ok(id.to_string().into())
}

#[cached(negative_ttl = "1s")]
async fn slice(id: u64) -> Option<Arc<[u64]>> {
    Some([id].into())
}

#[cached]
async fn of_some_type(id: u64) -> std::sync::Arc<dyn Display + Send + Sync> {
    std::sync::Arc::new(id)
}

#[cached]
async fn boxed(id: u64) -> Box<str> {
    id.to_string().into()
}

#[cached]
async fn unordered(ids: &HashSet<u64>) -> usize {
    ids.len()
}

#[cached]
async fn unordered_inside(org: u64, pages: Option<Vec<(u64, std::collections::HashSet<String>)>>) -> u64 {
    org + pages.into_iter().flatten().map(|(page, _)| page).sum::<u64>()
}

#[cached]
async fn unordered_elsewhere(ids: ahash::AHashSet<u64>) -> usize {
    ids.len()
}

#[cached]
async fn unordered_beneath(ids: HashMap<String, hashbrown::HashSet<u64>>) -> usize {
    ids.len()
}

/// What a type of somebody's own makes of it nobody knows.
#[cached]
async fn sorted_by_its_type(ids: Sorted<std::collections::HashSet<u64>>) -> usize {
    ids.len()
}

/// Entries of maps are written in the order of their keys.
#[cached]
async fn sorted(ids: HashMap<String, BTreeSet<u64>>) -> usize {
    ids.len()
}

#[cached(key = "ids:{ids.0}")]
async fn named(ids: Named<HashSet<u64>>) -> u64 {
    ids.0
}

#[cached(skip = [ids])]
async fn left_out(ids: HashSet<u64>, id: u64) -> bool {
    ids.contains(&id)
}

#[cached]
struct NoFunction;

fn main() {}
