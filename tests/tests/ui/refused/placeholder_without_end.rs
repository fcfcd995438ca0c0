//! A brace that is never closed.

use tideover::cached;

#[cached(ttl = "5m", key = "user:{user_id")]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
