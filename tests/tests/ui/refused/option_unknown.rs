//! An option that there is not.

use tideover::cached;

#[cached(key = "user:{user_id}", tll = "5m")]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
