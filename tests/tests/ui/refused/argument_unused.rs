//! An argument that neither the function nor the attribute uses.

#![deny(unused_variables)]

use tideover::{Cache, cached};

#[cached(key = "user:{user_id}", cache = cache)]
pub async fn name(cache: &Cache, user_id: u64, language: &str) -> String {
    format!("user {user_id}")
}
