//! How a cache is, for people and load balancers.

use serde_json::{Map, Value};

use crate::observe::Health;

/// What there is to tell of a cache's health.
pub(crate) fn told(health: Health) -> Map<String, Value> {
    match serde_json::to_value(health) {
        Ok(Value::Object(told)) => told,
        // A report is an object without odd parts.
        _ => Map::new(),
    }
}
