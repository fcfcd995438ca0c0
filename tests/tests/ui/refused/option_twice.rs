//! An option that is given twice.

use tideover::cached;

#[cached(ttl = "5m", key = "user:{user_id}", ttl = "6m")]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
