//! `#[cached]`: what it refuses, and what a function becomes.

mod expand;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Expr, Ident, ItemFn, TraitItemFn, Type};

use self::expand::Expansion;
use crate::options::{Name, Names, Options, key};
use crate::signature::{Function, Passing, Returned, is_opaque, is_unsized, names_self, returned, unordered};
use crate::template::Template;

pub(crate) const OPTIONS: &[&str] = &[
    "key",
    "skip",
    "ttl",
    "stale_while_revalidate",
    "stale_if_error",
    "negative_ttl",
    "tags",
    "store_if",
    "unavailable_if",
    "class",
    "retry_after",
    "map_err",
    "cache",
    "codec",
    "max_age",
    "timeout",
    "require_store",
    "associated",
];

/// The options of a cached function, read and checked.
struct Choices {
    key: Option<Template>,
    skip: Vec<Ident>,
    /// The wish of a call, and what it takes.
    ttl: Option<(&'static str, TokenStream)>,
    stale_while_revalidate: Option<TokenStream>,
    stale_if_error: Option<TokenStream>,
    negative_ttl: Option<TokenStream>,
    tags: Option<Names>,
    store_if: Option<Expr>,
    unavailable_if: Option<Expr>,
    class: Option<Expr>,
    retry_after: Option<Expr>,
    map_err: Option<Expr>,
    cache: Option<Expr>,
    codec: Option<Expr>,
    max_age: Option<TokenStream>,
    timeout: Option<TokenStream>,
    require_store: bool,
    associated: bool,
}

pub(crate) fn cached(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let item = function(item)?;
    let options = options.known("cached", OPTIONS)?;
    let choices = Choices::read(&options)?;
    let function = Function::read(item);
    let Some(ty) = check(&function)? else {
        let message = "there is nothing to cache: the function returns nothing";
        return Err(syn::Error::new(function.name().span(), message));
    };
    check_names(&options, &choices, &function)?;
    check_order(&choices, &function)?;
    check_self(&choices, &function)?;
    let Some(returned) = Returned::read(ty, choices.negative_ttl.is_some()) else {
        let message =
            "`negative_ttl` remembers that there is no such thing: it needs a function that returns an `Option`";
        return Err(syn::Error::new_spanned(ty, message));
    };
    if is_unsized(&returned.value) {
        let message = "what is cached is read back by serde into a type that has a size: `Arc<String>` for `Arc<str>`, \
                       `Arc<Vec<T>>` for `Arc<[T]>`, an enum for `Arc<dyn Trait>`";
        return Err(syn::Error::new_spanned(&returned.value, message));
    }
    check_errors(&options, &choices, &returned, ty)?;
    check_failures(&options, &choices, &returned)?;
    Ok(Expansion::new(&function, &choices, &returned).all())
}

fn function(item: TokenStream) -> syn::Result<ItemFn> {
    let refused = match syn::parse2(item.clone()) {
        Ok(item) => return Ok(item),
        Err(refused) => refused,
    };
    match syn::parse2::<TraitItemFn>(item) {
        Ok(declared) if declared.default.is_none() => {
            let message =
                "`#[cached]` stands on a function with a body: on the implementing type's own method, not in a trait";
            Err(syn::Error::new(declared.sig.ident.span(), message))
        }
        _ => Err(syn::Error::new(refused.span(), format!("`#[cached]` stands on a function: {refused}"))),
    }
}

impl Choices {
    fn read(options: &Options) -> syn::Result<Self> {
        let own = |name| options.value(name).map(Option::<&Expr>::cloned);
        Ok(Self {
            key: options.value("key")?.map(key).transpose()?,
            skip: options.value("skip")?.map(skipped).transpose()?.unwrap_or_default(),
            ttl: options.lifetime("ttl")?,
            stale_while_revalidate: options.duration("stale_while_revalidate")?,
            stale_if_error: options.duration("stale_if_error")?,
            negative_ttl: options.duration("negative_ttl")?,
            tags: options.value("tags")?.map(Names::read).transpose()?,
            store_if: own("store_if")?,
            unavailable_if: own("unavailable_if")?,
            class: own("class")?,
            retry_after: own("retry_after")?,
            map_err: own("map_err")?,
            cache: own("cache")?,
            codec: own("codec")?,
            max_age: options.duration("max_age")?,
            timeout: options.duration("timeout")?,
            require_store: options.flag("require_store")?,
            associated: options.flag("associated")?,
        })
    }
}

fn skipped(value: &Expr) -> syn::Result<Vec<Ident>> {
    let refused = || syn::Error::new_spanned(value, "`skip` is a list of arguments: `skip = [db]`");
    let name = |element: &Expr| match element {
        Expr::Path(path) => path.path.get_ident().cloned(),
        _ => None,
    };
    let Expr::Array(list) = value else { return Err(refused()) };
    list.elems.iter().map(|element| name(element).ok_or_else(refused)).collect()
}

/// Refuses functions that cannot be cached; else the type they return.
fn check(function: &Function) -> syn::Result<Option<&Type>> {
    let signature = &function.item.sig;
    let refuse = |wrong: &dyn ToTokens, message: &str| Err(syn::Error::new_spanned(wrong, message));
    if let Some(constness) = &signature.constness {
        return refuse(constness, "a `const fn` cannot be cached: it may run where there is no program yet");
    }
    if let Some(unsafety) = &signature.unsafety {
        return refuse(unsafety, "an `unsafe fn` cannot be cached: its caller cannot vouch for loads of later");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "a function of another ABI cannot be cached");
    }
    if let Some(owner) = &function.owner
        && matches!(owner.passing, Passing::Exclusive)
    {
        let message = "a cached method takes `&self`, `self` or `self: Arc<Self>`: the load may outlive the call";
        return refuse(&owner.token, message);
    }
    for argument in &function.arguments {
        if matches!(argument.passing, Passing::Exclusive) {
            let message = "a cached function cannot change its arguments: for most calls it does not run";
            return refuse(&argument.ty, message);
        }
        if let Some(borrowed) = argument.passing.borrowed() {
            let message = "the load may outlive the call, and takes copies along of `&T`, `&str`, `&[T]` and `Option<&T>`; \
                           what borrows inside cannot be copied so: take an owned type";
            return refuse(&borrowed, message);
        }
    }
    let Some(ty) = returned(signature) else { return Ok(None) };
    if is_opaque(ty) {
        return refuse(ty, "`impl Trait` cannot be cached: name the type");
    }
    if let Type::Reference(reference) = ty {
        return refuse(reference, "what is cached owns all that it has: return the value, or an `Arc` of it");
    }
    Ok(Some(ty))
}

/// Refuses placeholders and skipped names that are no arguments.
fn check_names(options: &Options, choices: &Choices, function: &Function) -> syn::Result<()> {
    let owner = function.owner.as_ref().map(|owner| &owner.token);
    let names = function.names(owner);
    if let Some(key) = &choices.key {
        key.check(&names, function.name())?;
    }
    let mut with_result = function.names(owner);
    let result = Ident::new("result", function.name().span());
    with_result.add(&result, &result, true);
    if let Some(Names::Each(tags)) = &choices.tags {
        for tag in tags {
            if let Name::Template(tag) = tag {
                tag.check(&with_result, function.name())?;
            }
        }
    }
    for skipped in &choices.skip {
        if !function.arguments.iter().any(|argument| argument.name == *skipped) {
            let all: Vec<_> = function.arguments.iter().map(|argument| argument.name.to_string()).collect();
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            let meant = crate::nearest::suggestion(&skipped.to_string(), &all);
            let message = format!("`{}` has no argument `{skipped}`; {meant}", function.name());
            return Err(syn::Error::new(skipped.span(), message));
        }
    }
    if choices.key.is_some()
        && let Some(name) = options.name("skip")
    {
        let message = "`skip` and `key` contradict each other: a template names all that matters";
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(())
}

/// Refuses a cache that is found by way of a `self` that there is none of.
fn check_self(choices: &Choices, function: &Function) -> syn::Result<()> {
    let Some(cache) = choices.cache.as_ref().filter(|cache| function.owner.is_none() && names_self(cache)) else {
        return Ok(());
    };
    let message = format!(
        "`{}` has no `self`: take the cache as an argument, `cache = cache`, name a static one, or leave the option out for \
         that of the process",
        function.name()
    );
    Err(syn::Error::new_spanned(cache, message))
}

/// Refuses arguments in the key that are equal and would be written differently: one call would have many keys.
fn check_order(choices: &Choices, function: &Function) -> syn::Result<()> {
    if choices.key.is_some() {
        return Ok(());
    }
    let mut in_key = function.arguments.iter().filter(|argument| !choices.skip.contains(&argument.name));
    let Some(set) = in_key.find_map(|argument| unordered(&argument.ty)) else { return Ok(()) };
    let message = "equal sets of this type would make different keys, as each has an order of its own: take a `BTreeSet`, \
                   name what matters in a template, `key = \"…{argument.field}…\"`, or leave it out, `skip = […]`";
    Err(syn::Error::new_spanned(set, message))
}

/// Refuses what would fail a call of a function that cannot fail: it would run uncached, without any limit.
fn check_failures(options: &Options, choices: &Choices, returned: &Returned) -> syn::Result<()> {
    let wanted = [
        ("require_store", choices.require_store, "fails calls while the store is away"),
        ("timeout", true, "fails calls that take longer"),
    ];
    for (option, is_wanted, does) in wanted {
        if let Some(name) = options.name(option).filter(|_| is_wanted && returned.error.is_none()) {
            let message = format!("`{option}` {does}, but the function cannot fail: it returns no `Result`");
            return Err(syn::Error::new(name.span(), message));
        }
    }
    Ok(())
}

fn check_errors(options: &Options, choices: &Choices, returned: &Returned, ty: &Type) -> syn::Result<()> {
    if choices.class.is_some()
        && let Some(other) = options.name("unavailable_if")
    {
        return Err(syn::Error::new(other.span(), "`class` and `unavailable_if` say the same: give one of them"));
    }
    if returned.error.is_some() {
        return Ok(());
    }
    let about = ["unavailable_if", "class", "retry_after", "map_err"];
    let Some(name) = about.iter().find_map(|name| options.name(name)) else { return Ok(()) };
    let message = format!("`{name}` is about errors, but the function cannot fail: it returns no `Result`");
    let mut error = syn::Error::new(name.span(), message);
    error.combine(syn::Error::new_spanned(ty, "this would have to be a `Result`"));
    Err(error)
}
