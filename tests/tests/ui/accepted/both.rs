//! Both attributes, as they are meant.

use tideover::{cached, invalidates};

#[derive(Clone)]
pub enum DbError {
    NoSuchUser,
    Cache(tideover::Error),
}

impl From<tideover::Error> for DbError {
    fn from(error: tideover::Error) -> Self {
        Self::Cache(error)
    }
}

#[cached(key = "user:{user_id}", ttl = "5m", tags = ["users", "user:{user_id}"])]
pub async fn name(user_id: u64) -> Result<String, DbError> {
    if user_id == 0 { Err(DbError::NoSuchUser) } else { Ok(format!("user {user_id}")) }
}

#[invalidates(tags = ["user:{user_id}"], matching = ["page:{user_id}:*"], recache = [name(user_id = user_id)])]
pub async fn rename(user_id: u64, name: &str) {
    println!("{user_id} is {name}");
}
