//! An argument that a load cannot take along.

use tideover::cached;

pub struct Database;

#[cached(key = "user:{user_id}")]
pub async fn name(_db: &Database, user_id: u64) -> String {
    format!("user {user_id}")
}
