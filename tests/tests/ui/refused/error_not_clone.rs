//! An error that cannot be shared by all who wait.

use tideover::cached;

pub enum DbError {
    NoSuchUser,
    Cache(tideover::Error),
}

impl From<tideover::Error> for DbError {
    fn from(error: tideover::Error) -> Self {
        Self::Cache(error)
    }
}

#[cached(key = "user:{user_id}")]
pub async fn name(user_id: u64) -> Result<String, DbError> {
    if user_id == 0 { Err(DbError::NoSuchUser) } else { Ok(format!("user {user_id}")) }
}
