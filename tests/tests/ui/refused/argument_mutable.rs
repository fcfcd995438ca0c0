//! An argument that the function changes.

use tideover::cached;

#[cached(key = "user:{user_id}")]
pub async fn name(user_id: u64, log: &mut Vec<String>) -> String {
    log.push(format!("asked for {user_id}"));
    format!("user {user_id}")
}
