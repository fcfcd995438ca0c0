//! What `#[cached]` and `#[invalidates]` expand to.
//!
//! The attributes know a function's text: its arguments, its templates, the shape of what it returns. What is done with
//! them is here, as ordinary code: which cache it is, what a key looks like, what is counted, who waits where. Whether a
//! value is fresh or who loads it is not known here either; that is the cache's.

mod beside;
mod call;
mod counts;
mod global;
mod key;
mod lend;
mod shape;
mod write;

pub use self::beside::{health, health_blocking, invalidate, invalidate_blocking, peek, peek_blocking, warm_blocking};
pub use self::call::{AsCache, Begun, Call, begin, cache_of};
pub use self::counts::{Function, FunctionHealth, FunctionStats};
pub use self::global::{Global, InstallError, install};
pub use self::key::{KeyPart, Placeholder, Signature, insert};
pub use self::lend::{
    Argument, Fallible, Lendable, Owner, ReturnedError, ReturnedValue, argument, error_of, holds, lent, own, owner,
    value_of,
};
pub use self::shape::{Shape, Value};
pub use self::write::{Always, Checked, Warmer, Write, Written, same_names};
