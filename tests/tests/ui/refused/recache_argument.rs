//! Arguments of a warmed function that are not called so.

use tideover::{cached, invalidates};

#[cached(key = "{org}:{id}")]
pub async fn user(org: u64, id: u64) -> u64 {
    org + id
}

#[invalidates(tags = ["user:{user_id}"], recache = [user(org = 1, user_id = user_id)])]
pub async fn rename(user_id: u64, name: &str) {
    println!("{user_id} is {name}");
}
