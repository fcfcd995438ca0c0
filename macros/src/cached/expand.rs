//! What a cached function becomes: itself, asking the cache, and what is offered beside it.
//!
//! Its body goes to `uncached`. In the expressions of options, arguments are references, wherever they are evaluated.

mod beside;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, Signature};

use super::Choices;
use crate::options::{Name, Names};
use crate::signature::{Argument, Function, Returned, mentions, renamed_self};

/// Where the function is defined, as far as it can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In a module or a body: a type of its name stands beside it.
    Free,
    /// In an `impl` block: further functions stand beside it.
    Type,
}

/// Where an option's expression is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the call.
    Call,
    /// In the load, which has its own `self`, and the value as `result`.
    Load,
    /// In a load that has brought nothing.
    Nothing,
}

pub(super) struct Expansion<'a> {
    function: &'a Function,
    choices: &'a Choices,
    returned: &'a Returned,
    home: Home,
    /// `self` as a load has it.
    this: Ident,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(function: &'a Function, choices: &'a Choices, returned: &'a Returned) -> Self {
        let of_type = function.owner.is_some() || choices.associated || function.mentions_own_type();
        let home = if of_type { Home::Type } else { Home::Free };
        Self { function, choices, returned, home, this: Ident::new("__this", Span::call_site()) }
    }

    pub(super) fn all(&self) -> TokenStream {
        let (outer, uncached, get, beside) = (self.outer(), self.uncached(), self.get(), self.beside());
        let (name, visibility) = (self.function.name(), &self.function.item.vis);
        let conditions: Vec<_> = self.conditions().collect();
        if self.home == Home::Type {
            return quote!(#outer #uncached #get #beside);
        }
        let doc = format!("What can be done beside calling [`{name}`](fn@{name}).");
        quote! {
            #outer
            #(#conditions)*
            #[doc = #doc]
            #[allow(non_camel_case_types, dead_code)]
            #visibility struct #name {}
            #(#conditions)*
            impl #name { #uncached #get #beside }
        }
    }

    /// The function as it was, but for its body.
    fn outer(&self) -> TokenStream {
        let attributes = &self.function.item.attrs;
        let (visibility, signature) = (&self.function.item.vis, self.function.plain_signature());
        let answer = self.answer(false);
        quote!(#(#attributes)* #visibility #signature { #answer })
    }

    /// The body, as it was.
    fn uncached(&self) -> TokenStream {
        let mut signature = self.function.item.sig.clone();
        signature.ident = self.named("uncached");
        let attributes = self.function.item.attrs.iter().filter(|attribute| is_about_code(attribute));
        let (visibility, mut block) = (&self.function.item.vis, self.function.item.block.clone());
        // Items that come first stay first.
        let items = block.stmts.iter().take_while(|statement| matches!(statement, syn::Stmt::Item(_))).count();
        block.stmts.splice(items..items, self.handles().map(|handle| syn::parse_quote!(let _ = &#handle;)));
        let doc = format!("Runs `{}` itself: nothing is looked up, and nothing kept.", self.function.name());
        quote!(#(#attributes)* #[doc = #doc] #visibility #signature #block)
    }

    /// What the body may leave unused, as it is there to be cached with.
    fn handles(&self) -> impl Iterator<Item = &'a Ident> {
        let handles: TokenStream =
            [&self.choices.cache, &self.choices.codec].into_iter().map(|of| quote!(#of)).collect();
        let names = self.function.arguments.iter().flat_map(Argument::known_as);
        names.filter(move |name| mentions(&handles, &name.to_string()))
    }

    /// What the function returns, out of what is fetched.
    fn answer(&self, refresh: bool) -> TokenStream {
        let (get, arguments) = (self.call("get"), self.function.handed_on());
        let wait = self.function.is_async().then(|| quote!(.await));
        let fetched = quote!(#get(#arguments #refresh)#wait);
        let value = &self.returned.value;
        let value = if self.returned.shared {
            quote!(__fetched.value)
        } else {
            quote_spanned!(value.span()=> ::tideover::function::value_of::<#value>(__fetched.value))
        };
        let value = if self.returned.optional { quote!(__fetched.map(|__fetched| #value)) } else { value };
        let Some(error) = &self.returned.error else { return quote!(let __fetched = #fetched; #value) };
        let error = match &self.choices.map_err {
            Some(map) => quote_spanned!(map.span()=> (#map)(__error)),
            None => quote_spanned!(error.span()=> ::tideover::function::error_of::<#error>(__error)),
        };
        quote! {
            match #fetched {
                ::core::result::Result::Ok(__fetched) => ::core::result::Result::Ok(#value),
                ::core::result::Result::Err(__error) => ::core::result::Result::Err(#error),
            }
        }
    }

    /// What all who fetch have in common; its last argument says whether to refresh. Then the same for those who warm what
    /// a write has outdated.
    fn get(&self) -> TokenStream {
        let refresh: syn::FnArg = syn::parse_quote!(__refresh: bool);
        let mut get = self.signature(&self.hidden("get"), &self.fetched());
        get.inputs.push(refresh);
        let get = self.hide(&get, &self.got());

        let mut warm = self.signature(&self.hidden("warm"), &quote!(bool));
        warm.asyncness.get_or_insert_default();
        let call = self.call("get");
        let is_ok = self.returned.error.as_ref().map(|_| quote!(.is_ok())).unwrap_or(quote!(; true));
        let warmed = if self.function.is_async() {
            let arguments = self.function.handed_on();
            quote!(#call(#arguments true).await #is_ok)
        } else {
            let (taken, took, lent) = (self.taken(), self.took(), self.lent());
            quote! {
                let __args = #taken;
                ::tideover::function::warm_blocking(move || {
                    let #took = &__args;
                    #call(#lent true) #is_ok
                })
                .await
            }
        };
        let warm = self.hide(&warm, &warmed);
        quote!(#get #warm)
    }

    /// The type of what is fetched.
    fn fetched(&self) -> TokenStream {
        let value = &self.returned.value;
        let mut fetched = quote!(::tideover::Fetched<::std::sync::Arc<#value>>);
        if self.returned.optional {
            fetched = quote!(::core::option::Option<#fetched>);
        }
        match &self.returned.error {
            Some(error) => quote!(::core::result::Result<#fetched, ::tideover::CallError<#error>>),
            None => fetched,
        }
    }

    /// How it is fetched: what is in memory is served while all arguments are still the caller's; only a call that waits
    /// takes copies along.
    fn got(&self) -> TokenStream {
        let (scope, cache, key, value) = (self.scope(), self.cache(), self.key(), &self.returned.value);
        let function = self.plain_call("function");
        let max_age = optional(self.choices.max_age.as_ref());
        let mut hit = quote!(__fetched);
        if self.returned.optional {
            hit = quote!(::core::option::Option::Some(#hit));
        }
        if self.returned.error.is_some() {
            hit = quote!(::core::result::Result::Ok(#hit));
        }
        let (wishes, taken, load) = (self.wishes(), self.taken(), self.load());
        let load = if self.function.is_async() {
            quote_spanned!(value.span()=> __call.load(#load).await)
        } else {
            quote_spanned!(value.span()=> __call.load_blocking(#load))
        };
        quote! {
            let __call = {
                #scope
                let __max_age = if __refresh {
                    ::core::option::Option::Some(::core::time::Duration::ZERO)
                } else {
                    #max_age
                };
                match ::tideover::function::begin::<#value>(#function(), &(#cache), #key, __max_age) {
                    ::tideover::function::Begun::Hit(__fetched) => return #hit,
                    ::tideover::function::Begun::Wait(__call) => __call #wishes,
                }
            };
            let __args = ::std::sync::Arc::new(#taken);
            #load
        }
    }

    /// What the options ask of a call that waits. What else can be wrong with it is the type of the value.
    fn wishes(&self) -> TokenStream {
        let Choices { ttl, stale_while_revalidate, stale_if_error, negative_ttl, timeout, .. } = self.choices;
        let (mut wishes, at) = (TokenStream::new(), self.returned.value.span());
        let durations = [
            ttl.as_ref().map(|(wish, length)| (*wish, length)),
            stale_while_revalidate.as_ref().map(|window| ("stale_while_revalidate", window)),
            stale_if_error.as_ref().map(|window| ("stale_if_error", window)),
            negative_ttl.as_ref().map(|length| ("negative_ttl", length)),
            timeout.as_ref().map(|length| ("timeout", length)),
        ];
        for (wish, duration) in durations.into_iter().flatten() {
            let wish = Ident::new(wish, at);
            wishes.extend(quote_spanned!(at=> .#wish(#duration)));
        }
        if self.choices.require_store {
            wishes.extend(quote_spanned!(at=> .require_store()));
        }
        if !self.function.is_async() {
            let cache = self.cache();
            wishes.extend(quote_spanned!(at=> .threads(&(#cache))));
        }
        if let Some(codec) = &self.choices.codec {
            wishes.extend(quote_spanned!(codec.span()=> .codec(#codec)));
        }
        let error = self.returned.error.iter().next();
        if let Some(class) = &self.choices.class {
            wishes.extend(quote_spanned!(class.span()=> .class::<#error>(#class)));
        }
        if let Some(unavailable) = &self.choices.unavailable_if {
            wishes.extend(quote_spanned!(unavailable.span()=> .unavailable_if::<#error>(#unavailable)));
        }
        if let Some(wait) = &self.choices.retry_after {
            wishes.extend(quote_spanned!(wait.span()=> .retry_after::<#error>(#wait)));
        }
        wishes
    }

    /// What a load takes along: `self`, if there is one, and the arguments.
    fn taken(&self) -> TokenStream {
        let owner = self.function.owner.iter().map(|owner| owner.passing.take(&owner.token));
        let arguments = self.function.arguments.iter().map(|argument| argument.passing.take(&argument.name));
        let taken = owner.chain(arguments);
        quote!((#(#taken,)*))
    }

    /// The loader: a closure, to be called for each attempt.
    fn load(&self) -> TokenStream {
        let arguments = self.function.arguments.iter().zip(self.places());
        let scope: TokenStream = arguments.map(|(argument, from)| argument.borrow_from(&from)).collect();
        let (took, lent, uncached, brought) = (self.took(), self.lent(), self.call("uncached"), self.brought());
        let wait = self.function.is_async().then(|| quote!(.await));
        let run = quote! {
            let #took = &*__args;
            let __brought = #uncached(#lent)#wait;
            #scope
            #brought
        };
        if self.function.is_async() {
            quote!(move || {
                let __args = ::std::sync::Arc::clone(&__args);
                async move { #run }
            })
        } else {
            quote!(move || { #run })
        }
    }

    /// A pattern for what was taken along.
    fn took(&self) -> TokenStream {
        let this = self.function.owner.iter().map(|_| self.this.clone());
        let took = this.chain(self.places());
        quote!((#(#took,)*))
    }

    /// What was taken along, as arguments of a call.
    fn lent(&self) -> TokenStream {
        let owner = self.function.owner.iter().map(|owner| owner.lend(&self.this));
        let arguments = self.function.arguments.iter().zip(self.places());
        let lent = owner.chain(arguments.map(|(argument, from)| argument.passing.lend(&from)));
        quote!(#(#lent,)*)
    }

    /// The names of the arguments that were taken along.
    fn places(&self) -> impl Iterator<Item = Ident> {
        (0..self.function.arguments.len()).map(|place| format_ident!("__argument_{place}"))
    }

    /// What the function brought, with what the options say of it.
    fn brought(&self) -> TokenStream {
        let (value, tags) = (&self.returned.value, self.tags(Place::Load));
        let keep = match &self.choices.store_if {
            Some(store_if) => {
                let store_if = renamed_self(store_if.to_token_stream(), &self.this);
                quote!(::tideover::function::holds::<#value>(result, #store_if))
            }
            None => quote!(true),
        };
        let mut brought = quote!({
            let (__keep, __tags) = {
                let result: &#value = ::core::borrow::Borrow::borrow(&__value);
                (#keep, #tags)
            };
            ::tideover::function::Value { value: __value, keep: __keep, tags: __tags }
        });
        if self.returned.optional {
            let tags = self.tags(Place::Nothing);
            brought = quote!(match __value {
                ::core::option::Option::Some(__value) => ::tideover::function::Perhaps::Something(#brought),
                ::core::option::Option::None => ::tideover::function::Perhaps::Nothing(#tags),
            });
        }
        match &self.returned.error {
            None => quote!({ let __value = __brought; #brought }),
            Some(_) => quote!(match __brought {
                ::core::result::Result::Ok(__value) => ::core::result::Result::Ok(#brought),
                ::core::result::Result::Err(__error) => ::core::result::Result::Err(__error),
            }),
        }
    }

    /// The key, where the arguments are in scope as references.
    fn key(&self) -> TokenStream {
        let owner = self.function.owner.as_ref().map(|owner| &owner.token);
        if let Some(template) = &self.choices.key {
            return template.text(&self.function.names(owner));
        }
        let name = self.function.name().to_string();
        let (name, own_type) = match self.home {
            Home::Free => {
                let name = self.function.name();
                (quote!(::core::any::type_name::<#name>()), None)
            }
            Home::Type => (
                quote!(::core::concat!(::core::module_path!(), "::", #name)),
                Some(quote!(::core::any::type_name::<Self>())),
            ),
        };
        let types = own_type.into_iter().chain(self.function.types());
        let parts = self.function.arguments.iter().filter(|argument| !self.choices.skip.contains(&argument.name));
        let parts = parts.map(|argument| {
            let name = &argument.name;
            quote_spanned!(argument.ty.span()=> .part(#name))
        });
        quote!(::tideover::function::Signature::of(#name, &[#(#types),*])#(#parts)*.key())
    }

    /// The tags; where there is no value those that depend on it are left out.
    fn tags(&self, place: Place) -> TokenStream {
        let owner = match place {
            Place::Call => self.function.owner.as_ref().map(|owner| &owner.token),
            Place::Load | Place::Nothing => self.function.owner.as_ref().map(|_| &self.this),
        };
        let mut names = self.function.names(owner);
        let result = Ident::new("result", Span::call_site());
        names.add(&result, &result, true);
        let is_there = |tokens: &TokenStream| place == Place::Load || !mentions(tokens, "result") || self.has_result();
        let seen = |value: &Expr| match place {
            Place::Call => value.to_token_stream(),
            Place::Load | Place::Nothing => renamed_self(value.to_token_stream(), &self.this),
        };
        let list = |all: TokenStream| {
            quote!(::core::iter::IntoIterator::into_iter(#all)
                .map(::core::convert::Into::<::std::string::String>::into)
                .collect::<::std::vec::Vec<::std::string::String>>())
        };
        match &self.choices.tags {
            Some(Names::Each(tags)) => {
                let tags = tags.iter().filter_map(|tag| match tag {
                    Name::Template(tag) => {
                        let there = place == Place::Load || !tag.mentions("result") || self.has_result();
                        there.then(|| tag.text(&names))
                    }
                    Name::Computed(tag) => is_there(&tag.to_token_stream()).then(|| {
                        let tag = seen(tag);
                        quote!(::core::convert::Into::<::std::string::String>::into(#tag))
                    }),
                });
                quote!(::std::vec![#(#tags),*] as ::std::vec::Vec<::std::string::String>)
            }
            Some(Names::Said(said)) => {
                let arguments = self.function.arguments.iter().map(|argument| &argument.name);
                let said = seen(said);
                list(quote_spanned!(said.span()=> (#said)(#(#arguments),*)))
            }
            Some(Names::All(all)) if is_there(&all.to_token_stream()) => list(seen(all)),
            _ => quote!(::std::vec::Vec::<::std::string::String>::new()),
        }
    }

    /// Whether an argument is called as the value otherwise is.
    fn has_result(&self) -> bool {
        self.function.arguments.iter().any(|argument| argument.name == "result")
    }

    fn cache(&self) -> TokenStream {
        match &self.choices.cache {
            Some(cache) => quote!(#cache),
            None => quote!(::tideover::function::Global),
        }
    }

    /// Binds the arguments to references.
    fn scope(&self) -> TokenStream {
        self.function.arguments.iter().map(Argument::borrow).collect()
    }

    /// The signature of something beside the function that takes the same arguments.
    fn signature(&self, ident: &Ident, output: &TokenStream) -> Signature {
        let mut signature = self.function.plain_signature();
        signature.ident = ident.clone();
        signature.output = syn::parse_quote!(-> #output);
        signature
    }

    /// A function for other expansions.
    fn hide(&self, signature: &Signature, body: &TokenStream) -> TokenStream {
        let visibility = &self.function.item.vis;
        let conditions = self.conditions();
        quote! {
            #(#conditions)*
            #[doc(hidden)]
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic, clippy::nursery)]
            #visibility #signature { #body }
        }
    }

    /// The name of something that is offered.
    fn named(&self, what: &str) -> Ident {
        let name = self.function.name();
        match self.home {
            Home::Free => Ident::new(what, name.span()),
            Home::Type => format_ident!("{what}_{name}", span = name.span()),
        }
    }

    /// The name of something for other expansions.
    fn hidden(&self, what: &str) -> Ident {
        match self.home {
            Home::Free => format_ident!("__{what}"),
            Home::Type => format_ident!("__tideover_{what}_{}", self.function.name()),
        }
    }

    /// The path to something beside the function, with its generic arguments.
    fn call(&self, what: &str) -> TokenStream {
        let (path, turbofish) = (self.plain_call(what), self.function.turbofish());
        quote!(#path #turbofish)
    }

    fn plain_call(&self, what: &str) -> TokenStream {
        let ident = if what == "uncached" { self.named(what) } else { self.hidden(what) };
        match self.home {
            Home::Free => {
                let name = self.function.name();
                quote!(#name::#ident)
            }
            Home::Type => quote!(Self::#ident),
        }
    }

    /// What decides whether the function is there at all.
    fn conditions(&self) -> impl Iterator<Item = &'a Attribute> {
        self.function.item.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"))
    }
}

/// Whether an attribute is about the code inside, not about the function as others see it.
fn is_about_code(attribute: &Attribute) -> bool {
    ["cfg", "allow", "expect", "warn", "deny", "forbid"].iter().any(|name| attribute.path().is_ident(name))
}

fn optional(value: Option<&TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
