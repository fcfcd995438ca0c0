//! What a load takes along of its call, and what callers get of what it brought. The traits are there for their messages:
//! they name what is missing in the words of a function's author.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::error::Error;
use crate::typed::CallError;

/// An argument that is handed over by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a cached function",
    note = "the load may outlive the call, and is repeated for further attempts: arguments are `Clone + Send + Sync + 'static`"
)]
pub trait Argument: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Argument for T {}

/// An argument that is handed over by reference.
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be an argument of a cached function",
    note = "the load may outlive the call, so it takes a copy along: `{Self}` is `Clone + Send + Sync + 'static`, or text, or a slice of such"
)]
pub trait Lendable: ToOwned<Owned: Send + Sync + 'static> {}

impl<T: ToOwned<Owned: Send + Sync + 'static> + ?Sized> Lendable for T {}

/// What has cached methods that take `&self`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has a cached method that takes `&self`, but cannot be cloned",
    note = "the load may outlive the call, so it takes a clone along: derive `Clone` (cheap, if the fields are handles), or take `self: Arc<Self>`"
)]
pub trait Owner: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Owner for T {}

/// The argument, which may go along.
pub fn argument<T: Argument>(value: T) -> T {
    value
}

/// A copy of what a reference lends.
pub fn own<T: Lendable + ?Sized>(value: &T) -> T::Owned {
    value.to_owned()
}

/// The copy, as the reference that it was made of.
pub fn lent<T: Lendable + ?Sized>(owned: &T::Owned) -> &T {
    owned.borrow()
}

/// A clone of `self`.
pub fn owner<T: Owner>(this: &T) -> T {
    this.clone()
}

/// What a function returns that can fail, under whatever name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is called a result, but is none",
    note = "`#[cached]` takes a return type of the name `Result` for a `std::result::Result`"
)]
pub trait Fallible {
    /// What it is when it does not fail.
    type Value;
    /// What it fails with.
    type Error;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// What a cached function returns by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is returned by value from a cached function, but cannot be cloned for each caller",
    note = "derive `Clone`, or return `Arc<{Self}>`, which all callers share"
)]
pub trait ReturnedValue: Clone {}

impl<T: Clone> ReturnedValue for T {}

/// What a cached function fails with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached function as it is",
    note = "it is shared by all who wait (`Clone + Send + Sync + 'static`), and says what the cache has to say (`From<tideover::Error>`); or `map_err = path` names a function that makes it of a `tideover::CallError`"
)]
pub trait ReturnedError: Clone + From<Error> + Send + Sync + 'static {}

impl<E: Clone + From<Error> + Send + Sync + 'static> ReturnedError for E {}

/// The value for one caller.
pub fn value_of<T: ReturnedValue>(value: Arc<T>) -> T {
    Arc::unwrap_or_clone(value)
}

/// The error for one caller.
pub fn error_of<E: ReturnedError>(error: CallError<E>) -> E {
    error.into_own()
}

/// Whether what an option says holds for the value.
pub fn holds<V>(value: &V, holds: impl FnOnce(&V) -> bool) -> bool {
    holds(value)
}
