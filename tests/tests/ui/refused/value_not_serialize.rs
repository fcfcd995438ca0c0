//! A value that cannot be written.

use tideover::cached;

#[derive(Clone)]
pub struct User {
    pub id: u64,
}

#[cached(key = "user:{id}", ttl = "5m")]
pub async fn user(id: u64) -> Result<User, tideover::Error> {
    Ok(User { id })
}
