//! A function that does not name what it returns.

use std::fmt::Display;

use tideover::cached;

#[cached(key = "user:{user_id}")]
pub async fn name(user_id: u64) -> impl Display {
    format!("user {user_id}")
}
