//! A text that is no duration.

use tideover::cached;

#[cached(key = "user:{user_id}", ttl = "five minutes")]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
