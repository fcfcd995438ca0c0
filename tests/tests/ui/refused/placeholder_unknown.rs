//! A placeholder of the key that is no argument.

use tideover::cached;

#[cached(key = "org:{org_id}:user:{user}", ttl = "5m")]
pub async fn profile(org_id: u64, user_id: u64) -> u64 {
    org_id + user_id
}
