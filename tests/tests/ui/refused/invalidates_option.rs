//! An option that `#[invalidates]` has under another name.

use tideover::invalidates;

#[invalidates(tag = ["user:{user_id}"])]
pub async fn rename(user_id: u64, name: &str) {
    println!("{user_id} is {name}");
}
