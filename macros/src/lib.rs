//! The attributes of tideover. To be used through the crate `tideover`, which documents and re-exports them.

mod cached;
mod invalidates;
mod nearest;
mod options;
mod signature;
mod template;

use proc_macro::TokenStream;

/// x
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(cached::cached, options, item)
}

/// x
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
