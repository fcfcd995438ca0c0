//! A cache that is a field of what the function does not have.

use tideover::cached;

#[cached(key = "user:{user_id}", cache = self.cache)]
pub async fn name(user_id: u64) -> String {
    format!("user {user_id}")
}
