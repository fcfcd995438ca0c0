//! A value that serde cannot read back.

use std::sync::Arc;

use tideover::cached;

#[cached(key = "user:{id}")]
pub async fn user(id: u64) -> Result<Arc<str>, tideover::Error> {
    Ok(format!("user {id}").into())
}
