//! `#[invalidates]`: what a write that succeeded leaves to be done. The function stays as it is, around its body.

mod recache;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Expr, ExprLit, ItemFn, Lit, TraitItemFn};

use self::recache::Recached;
use crate::options::{Name, Names, Options};
use crate::signature::{Function, Passing, is_opaque, is_result, mentions, renamed_self, returned};

pub(crate) const OPTIONS: &[&str] =
    &["tags", "keys", "matching", "how", "recache", "recache_max", "recache_wait", "cache"];

/// How many warmers run at once, if nothing else is said.
const RECACHE_MAX: usize = 4;

pub(crate) fn invalidates(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options = syn::parse2::<Options>(options)?.known("invalidates", OPTIONS)?;
    let function = Function::read(function(item)?);
    if let Some(constness) = &function.item.sig.constness {
        return Err(syn::Error::new_spanned(constness, "a `const fn` writes nothing"));
    }
    let targets = targets(&options, &function)?;
    let recached = Recached::read(&options, &function)?;
    if targets.is_empty() && recached.is_empty() {
        let message = "`#[invalidates]` without `tags`, `keys`, `matching` or `recache` does nothing";
        return Err(syn::Error::new(function.name().span(), message));
    }
    let expire = options.word("how", &["remove", "expire"])? == Some("expire");
    let cache = options.value("cache")?.cloned();
    let (at_once, wait) = (at_once(&options)?, options.flag("recache_wait")?);
    let write = Writing { function: &function, targets, recached, expire, cache, at_once, wait };
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

/// What the options name that is to be invalidated.
fn targets(options: &Options, function: &Function) -> syn::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for option in ["tags", "keys", "matching"] {
        let Some(value) = options.value(option)? else { continue };
        let names = if option == "matching" { Names::patterns(value)? } else { Names::read(value)? };
        check(&names, function)?;
        targets.push(Target { option, names });
    }
    Ok(targets)
}

fn at_once(options: &Options) -> syn::Result<usize> {
    match options.value("recache_max")? {
        None => Ok(RECACHE_MAX),
        Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) => match number.base10_parse()? {
            0 => Err(syn::Error::new(number.span(), "`recache_max` is at least 1")),
            number => Ok(number),
        },
        Some(other) => Err(syn::Error::new_spanned(other, "`recache_max` is a whole number")),
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

/// Keys, tags or patterns.
struct Target {
    /// The option that names them, and the method of a write that takes them.
    option: &'static str,
    names: Names,
}

struct Writing<'a> {
    function: &'a Function,
    targets: Vec<Target>,
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
    /// Calls that hand a write the names that can be said at once.
    early: TokenStream,
    /// The same for those that depend on the result.
    late: TokenStream,
}

impl Writing<'_> {
    fn expansion(&self) -> syn::Result<TokenStream> {
        let Said { before, kept, early, late } = self.said();
        let mut taken = self.recached.mentioned().to_owned();
        for target in &self.targets {
            taken.extend(self.mentioned_late(&target.names));
        }
        let taken = Taken::of(self.function, &taken)?;
        let item = &self.function.item;
        let (attributes, visibility, signature) = (&item.attrs, &item.vis, &item.sig);
        let (scope, cache, name) = (self.scope(), self.cache(), self.function.name().to_string());
        let how = if self.expire { format_ident!("Expire") } else { format_ident!("Remove") };
        let (at_once, wait) = (self.at_once, self.wait);
        let (take, body, follow) = (taken.take(), self.body(), self.follow(late, &taken));
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
                    #early;
                    (__write, #(#kept,)*)
                };
                #take
                let __result = #body;
                #follow
                __result
            }
        })
    }

    /// The names of all targets.
    fn said(&self) -> Said {
        let mut said = Said::default();
        for Target { option, names } in &self.targets {
            match names {
                Names::Each(each) => {
                    for (place, name) in each.iter().enumerate() {
                        self.say(&mut said, option, place, name);
                    }
                }
                Names::Said(function) => {
                    let arguments = self.function.arguments.iter().map(|argument| &argument.name);
                    said.early.extend(handed(option, quote!((#function)(#(#arguments),*))));
                }
                Names::All(all) => self.place(&mut said, option, all.to_token_stream()),
            }
        }
        said
    }

    fn say(&self, said: &mut Said, option: &str, place: usize, name: &Name) {
        let known = known(self.function);
        match name {
            Name::Template(template) if template.mentions("result") && !self.has_result() => {
                let later = template.text_later(&known, &format!("{option}_{place}"));
                said.before.extend(later.before);
                said.kept.extend(later.kept);
                let text = later.text;
                said.late.extend(handed(option, quote!([#text])));
            }
            Name::Template(template) => {
                let text = template.text(&known);
                said.early.extend(handed(option, quote!([#text])));
            }
            Name::Computed(computed) => self.place(said, option, quote!([#computed])),
        }
    }

    fn place(&self, said: &mut Said, option: &str, computed: TokenStream) {
        let calls = if self.is_late(&computed) { &mut said.late } else { &mut said.early };
        calls.extend(handed(option, computed));
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
    fn follow(&self, late: TokenStream, taken: &Taken<'_>) -> TokenStream {
        let late = renamed_self(late, &Ident::new("__this", Span::call_site()));
        let borrowed = taken.borrow();
        let warm = self.recached.warm(taken);
        let done = if self.function.is_async() { quote!(.done().await) } else { quote!(.done_blocking()) };
        let write = quote!({
            #borrowed
            __write #late
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

/// Hands names to a write, by the method that is called as the option.
fn handed(option: &str, names: TokenStream) -> TokenStream {
    let method = Ident::new(option, Span::call_site());
    quote!(.#method(#names))
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
