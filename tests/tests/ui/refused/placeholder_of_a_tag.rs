//! A placeholder that is wrong in one of several tags.

use tideover::cached;

#[cached(key = "user:{user_id}", tags = ["users", "user:{user_id}", "org:{org}"])]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
