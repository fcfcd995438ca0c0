//! What `#[cached]` and `#[invalidates]` expand to.
