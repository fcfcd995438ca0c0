//! The cache for programs and functions without a runtime.
