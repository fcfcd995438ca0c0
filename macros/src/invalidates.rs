//! `#[invalidates]`: what a write that succeeded leaves to be done. The function stays as it is, around its body.

mod recache;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ItemFn, Lit, TraitItemFn};

use self::recache::Recached;
use crate::options::{Name, Names, Options};
use crate::signature::{Function, Passing, is_opaque, is_result, mentions, renamed_self, returned};

pub(crate) const OPTIONS: &[&str] = &["tags", "keys", "how", "recache", "recache_max", "recache_wait", "cache"];

/// How many warmers run at once, if nothing else is said.
const RECACHE_MAX: usize = 4;

pub(crate) fn invalidates(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options = syn::parse2::<Options>(options)?.known("invalidates", OPTIONS)?;
    let function = Function::read(function(item)?);
    if let Some(constness) = &function.item.sig.constness {
        return Err(syn::Error::new(constness.span(), "a `const fn` writes nothing"));
    }
    let tags = options.value("tags")?.map(Names::read).transpose()?;
    let keys = options.value("keys")?.map(Names::read).transpose()?;
    let recached = Recached::read(&options, &function)?;
    if tags.is_none() && keys.is_none() && recached.is_empty() {
        let message = "`#[invalidates]` without `tags`, `keys` or `recache` does nothing";
        return Err(syn::Error::new(function.name().span(), message));
    }
    for names in [&tags, &keys].into_iter().flatten() {
        check(names, &function)?;
    }
    let expire = options.word("how", &["remove", "expire"])? == Some("expire");
    let cache = options.value("cache")?.cloned();
    let (at_once, wait) = (at_once(&options)?, options.flag("recache_wait")?);
    let write = Writing { function: &function, tags, keys, recached, expire, cache, at_once, wait };
    write.expansion()
}

fn function(item: TokenStream) -> syn::Result<ItemFn> {
    let refused = match syn::parse2(item.clone()) {
        Ok(item) => return Ok(item),
        Err(refused) => refused,
    };
    let message = match syn::parse2::<TraitItemFn>(item) {
        Ok(_) => "`#[invalidates]` stands on a function with a body".to_owned(),
        Err(_) => format!("`#[invalidates]` stands on a function: {refused}"),
    };
    Err(syn::Error::new(refused.span(), message))
}

fn at_once(options: &Options) -> syn::Result<usize> {
    match options.value("recache_max")? {
        None => Ok(RECACHE_MAX),
        Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) => match number.base10_parse()? {
            0 => Err(syn::Error::new(number.span(), "`recache_max` is at least 1")),
            number => Ok(number),
        },
        Some(other) => Err(syn::Error::new(other.span(), "`recache_max` is a whole number")),
    }
}

/// Refuses placeholders that name neither an argument nor the result.
fn check(names: &Names, function: &Function) -> syn::Result<()> {
    let Names::Each(each) = names else { return Ok(()) };
    let known = known(function);
    for name in each {
        if let Name::Template(template) = name {
            template.check(&known, function.name())?;
        }
    }
    Ok(())
}

/// What templates can name.
fn known(function: &Function) -> crate::template::Names {
    let mut names = function.names(function.owner.as_ref().map(|owner| &owner.token));
    let result = Ident::new("result", Span::call_site());
    names.add(&result, &result, true);
    names
}

struct Writing<'a> {
    function: &'a Function,
    tags: Option<Names>,
    keys: Option<Names>,
    recached: Recached,
    expire: bool,
    cache: Option<Expr>,
    at_once: usize,
    wait: bool,
}

/// What is said before the body runs, while the arguments are there, and after it, when the result is.
#[derive(Default)]
struct Said {
    /// Where the arguments are references, for values that `kept` names.
    before: TokenStream,
    kept: Vec<Ident>,
    /// Names that can be said at once.
    early: Vec<TokenStream>,
    /// Names that depend on the result.
    late: Vec<TokenStream>,
}

impl Writing<'_> {
    fn expansion(&self) -> syn::Result<TokenStream> {
        let (tags, keys) = (self.said(self.tags.as_ref(), "tag")?, self.said(self.keys.as_ref(), "key")?);
        let mut taken = self.recached.mentioned().to_owned();
        for names in [&self.tags, &self.keys].into_iter().flatten() {
            taken.extend(self.mentioned_late(names));
        }
        let taken = Taken::of(self.function, &taken)?;
        let item = &self.function.item;
        let (attributes, visibility, signature) = (&item.attrs, &item.vis, &item.sig);
        let (scope, cache, name) = (self.scope(), self.cache(), self.function.name().to_string());
        let how = if self.expire { format_ident!("Expire") } else { format_ident!("Remove") };
        let (before, kept) = (both(&tags.before, &keys.before), tags.kept.iter().chain(&keys.kept));
        let kept: Vec<_> = kept.collect();
        let (early_tags, early_keys) = (&tags.early, &keys.early);
        let (at_once, wait) = (self.at_once, self.wait);
        let (take, body, follow) = (taken.take(), self.body(), self.follow(&tags, &keys, &taken));
        Ok(quote! {
            #(#attributes)*
            #visibility #signature {
                let (__write, #(#kept,)*) = {
                    #scope
                    #before
                    let __write = ::tideover::function::Write::new(
                        ::core::concat!(::core::module_path!(), "::", #name),
                        ::tideover::function::cache_of(&(#cache)),
                        ::tideover::Invalidation::#how,
                    )
                    .warming(#at_once, #wait)
                    #(.tags(#early_tags))*
                    #(.keys(#early_keys))*;
                    (__write, #(#kept,)*)
                };
                #take
                let __result = #body;
                #follow
                __result
            }
        })
    }

    /// The keys or tags, as far as they can be said before.
    fn said(&self, names: Option<&Names>, what: &str) -> syn::Result<Said> {
        let (mut said, known) = (Said::default(), known(self.function));
        match names {
            None => {}
            Some(Names::Each(each)) => {
                for (place, name) in each.iter().enumerate() {
                    match name {
                        Name::Template(template) if template.mentions("result") && !self.has_result() => {
                            let later = template.text_later(&known, &format!("{what}_{place}"));
                            said.before.extend(later.before);
                            said.kept.extend(later.kept);
                            let text = later.text;
                            said.late.push(quote!([#text]));
                        }
                        Name::Template(template) => {
                            let text = template.text(&known);
                            said.early.push(quote!([#text]));
                        }
                        Name::Computed(computed) => self.place(&mut said, quote!([#computed])),
                    }
                }
            }
            Some(Names::Said(function)) => {
                let arguments = self.function.arguments.iter().map(|argument| &argument.name);
                said.early.push(quote!((#function)(#(#arguments),*)));
            }
            Some(Names::All(all)) => self.place(&mut said, all.to_token_stream()),
        }
        Ok(said)
    }

    fn place(&self, said: &mut Said, computed: TokenStream) {
        if self.is_late(&computed) {
            said.late.push(computed);
        } else {
            said.early.push(computed);
        }
    }

    fn is_late(&self, computed: &TokenStream) -> bool {
        mentions(computed, "result") && !self.has_result()
    }

    /// Whether an argument is called as the result otherwise is.
    fn has_result(&self) -> bool {
        self.function.arguments.iter().any(|argument| argument.name == "result")
    }

    /// The arguments that are needed when the body has used them up.
    fn mentioned_late(&self, names: &Names) -> Vec<String> {
        let computed: Vec<TokenStream> = match names {
            Names::Each(each) => each
                .iter()
                .filter_map(|name| match name {
                    Name::Computed(computed) => Some(computed.to_token_stream()),
                    Name::Template(_) => None,
                })
                .collect(),
            Names::All(all) => vec![all.to_token_stream()],
            Names::Said(_) => Vec::new(),
        };
        let late = computed.iter().filter(|computed| self.is_late(computed));
        late.flat_map(|computed| mentioned(self.function, computed)).collect()
    }

    /// The body as an expression that does not end the function.
    fn body(&self) -> TokenStream {
        let block = &self.function.item.block;
        let statements = &block.stmts;
        let output = returned(&self.function.item.sig);
        if !self.function.is_async() {
            let output = output.map_or_else(|| quote!(()), ToTokens::to_token_stream);
            let output = (!output.is_empty() && !is_opaque_tokens(&self.function.item)).then(|| quote!(-> #output));
            return quote!({
                #[allow(clippy::redundant_closure_call, clippy::unused_unit)]
                (move || #output { #(#statements)* })()
            });
        }
        // So that what `?` and `return` bring has a type before the end of the block is seen.
        let typed = output.filter(|ty| !is_opaque(ty)).map(|ty| {
            quote! {
                #[allow(unreachable_code, clippy::all, clippy::pedantic, clippy::nursery)]
                if false {
                    let __typed: #ty = loop {};
                    return __typed;
                }
            }
        });
        quote!(async move { #typed #(#statements)* }.await)
    }

    /// What is done after the body, if it succeeded.
    fn follow(&self, tags: &Said, keys: &Said, taken: &Taken<'_>) -> TokenStream {
        let (late_tags, late_keys) = (&tags.late, &keys.late);
        let this = Ident::new("__this", Span::call_site());
        let late = |names: &[TokenStream]| -> Vec<_> {
            names.iter().map(|names| renamed_self(names.clone(), &this)).collect()
        };
        let (late_tags, late_keys) = (late(late_tags), late(late_keys));
        let borrowed = taken.borrow();
        let warm = self.recached.warm(taken);
        let done = if self.function.is_async() { quote!(.done().await) } else { quote!(.done_blocking()) };
        let write = quote!({
            #borrowed
            __write #(.tags(#late_tags))* #(.keys(#late_keys))*
        });
        let fails = returned(&self.function.item.sig).is_some_and(is_result);
        let write = quote! {
            #[allow(unused_variables)]
            let __write = #write;
            __write #warm #done;
        };
        if fails {
            quote! {
                #[allow(unused_variables)]
                if let ::core::result::Result::Ok(result) = &__result { #write }
            }
        } else {
            quote! {
                if {
                    use ::tideover::function::{Always as _, Checked as _};
                    (&::tideover::function::Written(&__result)).succeeded()
                } {
                    #[allow(unused_variables)]
                    let result = &__result;
                    #write
                }
            }
        }
    }

    /// Binds the arguments to references.
    fn scope(&self) -> TokenStream {
        let bind = self.function.arguments.iter().map(|argument| {
            if argument.pattern.is_none() {
                return argument.borrow();
            }
            let names = &argument.names;
            quote!(#(#[allow(unused_variables)] let #names = &#names;)*)
        });
        bind.collect()
    }

    fn cache(&self) -> TokenStream {
        match &self.cache {
            Some(cache) => quote!(#cache),
            None => quote!(::tideover::function::Global),
        }
    }
}

fn both(one: &TokenStream, other: &TokenStream) -> TokenStream {
    quote!(#one #other)
}

fn is_opaque_tokens(item: &ItemFn) -> bool {
    returned(&item.sig).is_some_and(is_opaque)
}

/// The arguments, `self` among them, that an expression mentions.
fn mentioned(function: &Function, expression: &TokenStream) -> Vec<String> {
    let names = function.arguments.iter().flat_map(|argument| {
        let own = argument.pattern.is_none().then_some(&argument.name);
        own.into_iter().chain(&argument.names)
    });
    let names = names.map(ToString::to_string);
    let owner = function.owner.iter().map(|_| "self".to_owned());
    names.chain(owner).filter(|name| mentions(expression, name)).collect()
}

/// Copies of arguments, which outlive the body and the call.
struct Taken<'a> {
    all: Vec<One<'a>>,
}

struct One<'a> {
    /// The argument as expressions name it.
    name: Ident,
    /// The copy.
    copy: Ident,
    /// Nothing for what a pattern took apart.
    passing: Option<&'a Passing>,
}

impl<'a> Taken<'a> {
    fn of(function: &'a Function, names: &[String]) -> syn::Result<Self> {
        let mut all = Vec::new();
        let is_taken = |name: &Ident| names.iter().any(|taken| name == taken);
        for owner in function.owner.iter().filter(|_| names.iter().any(|taken| taken == "self")) {
            all.push(One {
                name: owner.token.clone(),
                copy: Ident::new("__taken_self", Span::call_site()),
                passing: Some(&owner.passing),
            });
        }
        for argument in &function.arguments {
            let plain = argument.pattern.is_none().then_some((&argument.name, Some(&argument.passing)));
            let parts = argument.names.iter().map(|name| (name, None));
            for (name, passing) in plain.into_iter().chain(parts).filter(|(name, _)| is_taken(name)) {
                all.push(One { name: name.clone(), copy: format_ident!("__taken_{name}"), passing });
            }
        }
        if let Some(one) = all.iter().find(|one| matches!(one.passing, Some(Passing::Exclusive))) {
            let message = format!("`{}` is borrowed by the write alone: what follows it cannot use it", one.name);
            return Err(syn::Error::new(one.name.span(), message));
        }
        Ok(Self { all })
    }

    /// Copies are made before the body uses the arguments up.
    fn take(&self) -> TokenStream {
        let take = self.all.iter().map(|One { name, copy, passing }| match passing {
            Some(passing @ (Passing::Reference(_) | Passing::Optional(_))) => {
                let taken = passing.take(name);
                quote!(let #copy = #taken;)
            }
            Some(Passing::Value(ty)) if !is_opaque(ty) => {
                quote!(let #copy = ::tideover::function::argument::<#ty>(::core::clone::Clone::clone(&#name));)
            }
            _ => quote!(let #copy = ::tideover::function::argument(::core::clone::Clone::clone(&#name));),
        });
        take.collect()
    }

    /// Binds the names to references to the copies.
    fn borrow(&self) -> TokenStream {
        let borrow = self.all.iter().map(|One { name, copy, passing }| {
            let name = own_name(name);
            match passing {
                Some(passing @ Passing::Reference(_)) => {
                    let lent = passing.lend(copy);
                    let lent = lent_of(&lent, copy);
                    quote!(let #name = #lent;)
                }
                _ => quote!(let #name = &#copy;),
            }
        });
        borrow.collect()
    }
}

/// `self` cannot be bound.
fn own_name(name: &Ident) -> Ident {
    if name == "self" { Ident::new("__this", Span::call_site()) } else { name.clone() }
}

/// Lends from a reference to the copy.
fn lent_of(lent: &TokenStream, copy: &Ident) -> TokenStream {
    quote!({ let #copy = &#copy; #lent })
}
