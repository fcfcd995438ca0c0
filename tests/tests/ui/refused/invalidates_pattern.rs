//! A placeholder that is wrong in one of several patterns.

use tideover::invalidates;

#[invalidates(keys = ["user:{user_id}"], matching = ["page:{user_id}:*", "org:*:{usr_id}"])]
pub async fn rename(user_id: u64, name: &str) {
    println!("{user_id} is {name}");
}
