//! An argument that cannot be part of the key.

use tideover::cached;

#[derive(Clone)]
pub struct Database;

#[cached(ttl = "5m")]
pub async fn name(_db: &Database, user_id: u64) -> String {
    format!("user {user_id}")
}
