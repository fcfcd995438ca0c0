//! An argument that would be written to the key in another order each time.

use std::collections::HashSet;

use tideover::cached;

#[cached(ttl = "5m")]
pub async fn names(org: u64, ids: Option<&HashSet<u64>>) -> Vec<String> {
    ids.into_iter().flatten().map(|id| format!("user {id} of {org}")).collect()
}
