//! A placeholder whose value cannot be shown.

use tideover::cached;

#[cached(key = "page:{number}")]
pub async fn page(number: Option<u64>) -> u64 {
    number.unwrap_or_default()
}
