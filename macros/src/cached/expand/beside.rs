//! What is offered beside a cached function.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, Signature, Type};

use super::{Expansion, Home, Place, optional};
use crate::signature::{Argument, mentions};

impl Expansion<'_> {
    pub(super) fn beside(&self) -> TokenStream {
        [self.refresh(), self.fetch(), self.peek(), self.invalidate(), self.names(), self.counts(), self.health()]
            .into_iter()
            .collect()
    }

    fn refresh(&self) -> TokenStream {
        let signature = Signature { ident: self.named("refresh"), ..self.function.plain_signature() };
        let doc = format!(
            "As `{}`, but the origin is asked, whatever is cached; what it brings is cached anew.",
            self.function.name()
        );
        self.offer(&doc, &signature, &self.answer(true))
    }

    fn fetch(&self) -> TokenStream {
        let signature = self.signature(&self.named("fetch"), &self.fetched());
        let doc = format!(
            "As `{}`, and says where the value was found, how old it is, and whether it is stale. An error is the \
             function's own, or the cache's.",
            self.function.name()
        );
        let (get, arguments) = (self.call("get"), self.function.handed_on());
        let wait = self.function.is_async().then(|| quote!(.await));
        self.offer(&doc, &signature, &quote!(#get(#arguments false)#wait))
    }

    fn peek(&self) -> TokenStream {
        let value = &self.returned.value;
        let peeked = quote!(::core::option::Option<::tideover::Fetched<::std::sync::Arc<#value>>>);
        let output = quote!(::core::result::Result<#peeked, ::tideover::Error>);
        let signature = self.signature(&self.named("peek"), &output);
        let doc = "What is cached for these arguments, if anything is. Nothing is loaded, and nothing counted.\n\n\
                   # Errors\n\nThose of the cache.";
        let (scope, cache, key) = (self.scope(), self.cache(), self.key());
        let codec = self.choices.codec.as_ref().map(ToTokens::to_token_stream);
        let codec = optional(codec.as_ref());
        let peek = self.asked("peek", Some(value), &quote!(__cache, __codec, __key));
        let body = quote! {
            let (__cache, __codec, __key) = {
                #scope
                (::tideover::function::cache_of(&(#cache)), #codec, #key)
            };
            #peek
        };
        self.offer(doc, &signature, &body)
    }

    fn invalidate(&self) -> TokenStream {
        let output = quote!(::core::result::Result<(), ::tideover::Error>);
        let signature = self.signature(&self.named("invalidate"), &output);
        let doc = "Removes what is cached for these arguments, in memory and in the store; inside a transaction, when \
                   that commits.\n\n# Errors\n\nThose of the cache.";
        let (scope, cache, key) = (self.scope(), self.cache(), self.key());
        let invalidate = self.asked("invalidate", None, &quote!(__cache, __key));
        let body = quote! {
            let (__cache, __key) = {
                #scope
                (::tideover::function::cache_of(&(#cache)), #key)
            };
            #invalidate
        };
        self.offer(doc, &signature, &body)
    }

    /// The key, and the tags.
    fn names(&self) -> TokenStream {
        let scope = self.scope();
        let said = |what: &str, doc: &str, output: TokenStream, value: TokenStream| {
            let mut signature = self.signature(&self.named(what), &output);
            signature.asyncness = None;
            self.offer(doc, &signature, &quote!(#scope #value))
        };
        let key = said(
            "key",
            "The key of what is cached for these arguments; empty if it cannot be cached.",
            quote!(::std::string::String),
            self.key(),
        );
        let tags = said(
            "tags",
            "The tags of what is cached for these arguments, except for those that depend on the value.",
            quote!(::std::vec::Vec<::std::string::String>),
            self.tags(Place::Call),
        );
        quote!(#key #tags)
    }

    /// What was counted, and where.
    fn counts(&self) -> TokenStream {
        let (visibility, function) = (&self.function.item.vis, self.hidden("function"));
        let (stats, reset) = (self.named("stats"), self.named("reset_stats"));
        let conditions: Vec<_> = self.conditions().collect();
        let name = self.function.name().to_string();
        let arguments = match self.home {
            Home::Type => TokenStream::new(),
            Home::Free => {
                let names = self.function.arguments.iter().map(|argument| argument.name.to_string());
                quote!(#[doc(hidden)] pub const __ARGUMENTS: &'static [&'static str] = &[#(#names),*];)
            }
        };
        let (full_name, itself) = match self.home {
            Home::Type => (quote!(#name), quote!(FUNCTION.of(::core::any::type_name::<Self>()))),
            Home::Free => (quote!(::core::concat!(::core::module_path!(), "::", #name)), quote!(&FUNCTION)),
        };
        quote! {
            #(#conditions)*
            /// What was counted of its calls in this process.
            #[allow(dead_code)]
            #[must_use]
            #visibility fn #stats() -> ::tideover::FunctionStats { Self::#function().stats() }

            #(#conditions)*
            /// Counts its calls from zero again.
            #[allow(dead_code)]
            #visibility fn #reset() { Self::#function().reset() }

            #(#conditions)*
            #[doc(hidden)]
            #visibility fn #function() -> &'static ::tideover::function::Function {
                static FUNCTION: ::tideover::function::Function = ::tideover::function::Function::new(#full_name);
                #itself
            }

            #arguments
        }
    }

    /// Takes of the arguments those that say which cache it is.
    fn health(&self) -> TokenStream {
        let output = quote!(::core::result::Result<::tideover::FunctionHealth, ::tideover::Error>);
        let mut signature = self.signature(&self.named("health"), &output);
        let cache = self.cache();
        let is_named =
            |argument: &&Argument| argument.known_as().iter().any(|name| mentions(&cache, &name.to_string()));
        // The inputs but for the receiver, in the same order.
        let mut arguments = self.function.arguments.iter();
        let is_taken = |input: &FnArg| match input {
            FnArg::Receiver(_) => mentions(&cache, "self"),
            FnArg::Typed(_) => arguments.next().is_some_and(|argument| is_named(&argument)),
        };
        signature.inputs = signature.inputs.into_iter().filter(is_taken).collect();
        let all = signature.inputs.len() == self.function.item.sig.inputs.len();
        if !all {
            // What is left may not mention them.
            signature.generics = syn::Generics::default();
        }
        let doc = "How it and its cache are.\n\n# Errors\n\nThose of the cache.";
        let function = self.plain_call("function");
        let health = self.asked("health", None, &quote!(#function(), __cache));
        let scope: TokenStream = self.function.arguments.iter().filter(is_named).map(Argument::borrow).collect();
        self.offer(doc, &signature, &quote!(#scope let __cache = ::tideover::function::cache_of(&(#cache)); #health))
    }

    /// What is asked of the cache: with `async`, or by a function that blocks. What can be wrong with it is the type of the
    /// value.
    fn asked(&self, what: &str, of: Option<&Type>, arguments: &TokenStream) -> TokenStream {
        let (span, of) = (self.returned.value.span(), of.iter());
        if self.function.is_async() {
            let ask = format_ident!("{what}");
            return quote_spanned!(span=> ::tideover::function::#ask #(::<#of>)* (#arguments).await);
        }
        let ask = format_ident!("{what}_blocking");
        quote_spanned!(span=> ::tideover::function::#ask #(::<#of>)* (#arguments))
    }

    fn offer(&self, doc: &str, signature: &Signature, body: &TokenStream) -> TokenStream {
        let visibility = &self.function.item.vis;
        let conditions = self.conditions();
        quote! {
            #(#conditions)*
            #[doc = #doc]
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic, clippy::nursery)]
            #visibility #signature { #body }
        }
    }
}
