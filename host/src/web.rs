//! Responses cached by a tower layer, and what axum needs.
