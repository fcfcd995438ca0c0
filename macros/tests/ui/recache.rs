//! Arguments of a warmed function that are not called so.

use tideover::{cached, invalidates};

#[cached]
async fn user(org: u64, id: u64) -> u64 {
    org + id
}

#[invalidates(recache = [user(id = user_id, org = 1)])]
async fn write(user_id: u64) {
    let _ = user_id;
}

fn main() {}
