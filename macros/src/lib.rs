//! The attributes of tideover. To be used through the crate `tideover`, which documents and re-exports them.
