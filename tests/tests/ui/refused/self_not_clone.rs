//! A method of a type that a load cannot take along.

use tideover::cached;

pub struct Users;

impl Users {
    #[cached(key = "user:{user_id}")]
    pub async fn name(&self, user_id: u64) -> String {
        format!("user {user_id}")
    }
}
