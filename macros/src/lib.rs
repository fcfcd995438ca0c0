//! The attributes of tideover. To be used through the crate `tideover`, which documents and re-exports them.

mod cached;
mod invalidates;
mod nearest;
mod options;
#[cfg(test)]
mod refused;
mod signature;
mod template;

use proc_macro::TokenStream;

/// # What can be cached
///
/// Functions and methods, `async` or not, generic or not, in modules, bodies and `impl` blocks, that return
///
/// | a | is cached as a | and |
/// |---|---|---|
/// | `Result<T, E>` | `T` | `E` is `Clone + Send + Sync` and `From<tideover::Error>`, or `map_err` says how to make it |
/// | `Result<Arc<T>, E>`, `Arc<T>` | `T` | all callers share one value: nothing is cloned, `T` need not be `Clone` |
/// | `T` | `T` | cannot fail, so if the cache has no answer (it is shut down, its limits are reached) the function runs by itself |
/// | `Option<T>`, `Result<Option<T>, E>` | `Option<T>` | with `negative_ttl`, `None` is instead remembered as an absence |
///
/// A load may outlive the call that needed it, since others wait for it, or it refreshes something stale. So it takes
/// arguments along: those given by value are `Clone + Send + Sync + 'static`; of `&T`, `&str`, `&[T]` and `Option<&T>` it takes
/// copies, and lends these to the function. `&self` needs a `Self` that is `Clone` (derive it, if the fields are handles);
/// `self: Arc<Self>` needs nothing. A hit takes nothing along.
///
/// A type counts as a result if it is called `Result` (`std::io::Result<T>`, too). Methods of traits cannot be cached: their
/// implementations can call a cached method of the type.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `key = "org:{org.id}:user:{user_id}"` | The key, with arguments, fields and places of tuples in it; `{{` is a brace. `key = ("user", "profile", "{user_id}")` puts colons between. |
/// | `skip = [db]` | Without `key`: arguments that are not part of the key. |
/// | `ttl = "1h30m"` | How long it is fresh: text, whole seconds, an expression, or the cache's `"short"`, `"default"` or `"long"`; `"0"` never expires. The cache's default without it. |
/// | `stale_while_revalidate = "30s"` | How long after that stale is served at once while one load refreshes it. |
/// | `stale_if_error = "1h"` | How long after that stale stands in when the origin is unavailable. |
/// | `negative_ttl = "10s"` | `None` means that there is no such thing, which is remembered for so long, and until one of the tags is invalidated that need no `result`; with more than 4 of those it is not remembered. |
/// | `tags = ["user:{user_id}", "org:{result.org}"]` | Tags to invalidate it by; `result` is the value. Or an expression, or a function that is called with references to all arguments but `self`. |
/// | `store_if = \|value: &T\| …` | Whether the value is kept, or only for those who wait for it. |
/// | `unavailable_if = \|error: &E\| …` | Which errors mean that the origin is unavailable: stale may stand in, and the circuit breaker counts it. The others are answers. Without it, all are, but for those of tideover, which say themselves what they are. |
/// | `class = path` | The same by a function from `&E` to a `tideover::Class`. |
/// | `retry_after = \|error: &E\| …` | After how long the origin asked to be asked again, as an `Option<Duration>`: the next attempt waits at least that long. |
/// | `map_err = path` | Makes the function's error of a `tideover::CallError<E>`. |
/// | `cache = self.cache` | The cache: an expression over the arguments. Without it, that of the process. A function that is not `async` had best name a `tideover::blocking::Cache`, which knows how many may run at once. |
/// | `codec = expression` | How values are written; JSON without it. |
/// | `max_age = "5s"` | What is older does not do, fresh or not. |
/// | `timeout = "200ms"` | Callers wait no longer. |
/// | `require_store` | Calls fail with `tideover::Error::Store` where the shared store would have been asked and is away, although the load may have succeeded. What memory has fresh is served. For functions that return a `Result`. |
/// | `associated` | It belongs to a type, although neither `self` nor `Self` shows that. |
///
/// In the expressions of options, arguments are references. Durations, templates and names are checked when the program is
/// compiled.
///
/// # Keys
///
/// In a template, values stand as they are shown (`Display`). So that two calls never share a key by accident, colons, `%` and
/// the character that follows in the template are replaced where they occur in a value: of `{one}:{other}`, `a:b` and `c`
/// make `a%3Ab:c`. So no id makes a call of `user:{id}` look like one of `user:{id}:posts`; where something else than colons
/// divides keys, no template may begin like another. The same holds of tags.
///
/// Without a template the key is the path of the function with all of its arguments but `self`, written with their types:
/// `1u32` and `1i64`, `"None"` and `None`, `("a:b", "c")` and `("a", "b:c")` are different keys, and so are calls for
/// different type parameters. Arguments implement `serde::Serialize`; what would be long ends with a digest. A call whose key
/// is past the cache's limit, or empty, runs uncached.
///
/// Equal arguments have to be written alike. The entries of a map are, whatever its order; of a set that hashes the order
/// would decide, so a `HashSet` among the arguments is refused: take a `BTreeSet`, a template that names what matters, or `skip`.
/// Inside of a type of one's own nobody sees it, and one call would have many keys. The other way round, what serde writes alike
/// is one key: variants of an enum that is `#[serde(untagged)]` if their contents are the same, and values that differ in
/// fields only that serde skips.
///
/// # What is offered beside it
///
/// Each takes the arguments of the function. Beside a function `user` stand `user::invalidate(…)` and so on; beside a method
/// `user` stand `self.invalidate_user(…)` and so on. They are `async` if the function is.
///
/// | name | what it does |
/// |---|---|
/// | `invalidate` | Removes what is cached for these arguments. |
/// | `refresh` | Asks the origin, whatever is cached, and caches what it says. |
/// | `fetch` | Says of the value where it was found, how old it is and whether it is stale; the error is the function's own or the cache's. |
/// | `peek` | What is cached, if anything is. Nothing is loaded or counted. |
/// | `uncached` | The function itself. |
/// | `key`, `tags` | Of what is cached. Tags that name `result` are left out. |
/// | `stats()`, `reset_stats()` | Hits, stale hits, misses, loads, errors and hit rate of this function in this process. |
/// | `health()` | The same with the state of its cache; takes the arguments that `cache = …` mentions. |
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(cached::cached, options, item)
}

/// # When
///
/// When the function has returned: for a `Result`, if it is `Ok`; for anything else, `None` included, always. (It is better to
/// load something once too often than to serve what is outdated.) The function returns when memory and store know, or the
/// store is known to be away: then they are told when it is back. An invalidation that fails does not fail the write: it is
/// logged as a warning, without keys. A caller that goes away while this is under way cancels none of it.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `tags = ["user:{user_id}", "org:{result.org}"]` | What bears one of these tags. As for `cached`, but `result` is what the write returned, or what is in its `Ok`. |
/// | `keys = ["user:{user_id}"]` | These keys; as `tags`. |
/// | `matching = ["user:{user_id}:*"]` | All keys that one of these patterns describes; as `keys`, but `*` stands for any characters, also none, and `\` makes the next character literal (`r"file:\*:{id}"`). What placeholders bring is literal. |
/// | `how = "expire"` | It is stale from now on, inside its windows, instead of gone (`"remove"`). |
/// | `recache = [user(user_id), self.profile(result.id)]` | Loads these calls of cached functions anew, behind the write. Expressions over the arguments as the body had them, and `result`; what they mention is cloned. `user(id = user_id, full = true)` also checks that the arguments are called so, in this order. |
/// | `recache_max = 4` | So many of them at once. One that fails stops no other. |
/// | `recache_wait = true` | The write waits for them. |
/// | `cache = self.cache` | The cache; without it, that of the process. |
///
/// # Patterns
///
/// The value of a placeholder is written as in a key of `cached`, so `user:{user_id}:*` reaches all that
/// `user:{user_id}:{page}` has made for that user, and nothing of another: a character that ends the value in the pattern is
/// replaced where it occurs in the value. So a `*` does not follow a placeholder directly. In a pattern that is an
/// expression, `tideover::writes::escape_pattern` makes data literal.
#[proc_macro_attribute]
pub fn invalidates(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(invalidates::invalidates, options, item)
}

/// What is refused stays as it is, so that only the reason is reported.
fn expanded(
    expand: fn(proc_macro2::TokenStream, proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream>,
    options: TokenStream,
    item: TokenStream,
) -> TokenStream {
    match expand(options.into(), item.clone().into()) {
        Ok(expansion) => expansion.into(),
        Err(refused) => {
            let mut refused: TokenStream = refused.into_compile_error().into();
            refused.extend(item);
            refused
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_option_is_documented() {
        let source = include_str!("lib.rs");
        let (of_cached, of_invalidates) = source.split_once("pub fn cached(").expect("both attributes");
        for (options, documents) in [(crate::cached::OPTIONS, of_cached), (crate::invalidates::OPTIONS, of_invalidates)]
        {
            for option in options {
                let row = documents.lines().any(|line| {
                    let row = line.strip_prefix("/// | `").and_then(|row| row.strip_prefix(option));
                    row.is_some_and(|rest| rest.starts_with([' ', '`']))
                });
                assert!(row, "the option {option} is not in the table");
            }
        }
    }
}
