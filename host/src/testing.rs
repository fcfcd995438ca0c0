//! A kit for the tests of those who use tideover.
