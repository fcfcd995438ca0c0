//! Configuration from a file and from the environment.
