//! The snippets of the guide in `docs/`, compiled and run as documentation tests.
