//! The options between the brackets of an attribute: their names, and those of their values that are texts.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Expr, ExprArray, ExprLit, ExprTuple, Ident, Lit, LitStr, Token};
use tideover_core::time::parse_duration;

use crate::nearest::suggestion;
use crate::template::Template;

/// Options as they were written, in order.
pub(crate) struct Options(Vec<(Ident, Option<Expr>)>);

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Vec::new();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let value = if input.peek(Token![=]) {
                input.parse::<Token![=]>()?;
                Some(input.parse()?)
            } else {
                None
            };
            options.push((name, value));
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(Self(options))
    }
}

impl Options {
    /// Refuses names that are not among `known`, and those that come twice.
    pub(crate) fn known(self, attribute: &str, known: &[&str]) -> syn::Result<Self> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            let text = name.to_string();
            if !known.contains(&text.as_str()) {
                let meant = suggestion(&text, known);
                return Err(syn::Error::new(name.span(), format!("`{attribute}` has no option `{text}`; {meant}")));
            }
            if self.0.iter().take(place).any(|(earlier, _)| earlier == name) {
                return Err(syn::Error::new(name.span(), format!("the option `{text}` is given twice")));
            }
        }
        Ok(self)
    }

    /// The value of an option that has one.
    pub(crate) fn value(&self, name: &str) -> syn::Result<Option<&Expr>> {
        match self.0.iter().find(|(known, _)| known == name) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value)),
            Some((ident, None)) => Err(syn::Error::new(ident.span(), format!("the option `{name}` needs a value"))),
        }
    }

    /// Whether an option stands there, or is said to be true.
    pub(crate) fn flag(&self, name: &str) -> syn::Result<bool> {
        match self.0.iter().find(|(known, _)| known == name) {
            None => Ok(false),
            Some((_, None)) => Ok(true),
            Some((_, Some(Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. })))) => Ok(flag.value),
            Some((_, Some(value))) => Err(syn::Error::new_spanned(value, format!("`{name}` is `true` or `false`"))),
        }
    }

    /// The span of an option's name, for what is wrong with it as a whole.
    pub(crate) fn name(&self, name: &str) -> Option<&Ident> {
        self.0.iter().map(|(ident, _)| ident).find(|known| *known == name)
    }

    /// An option that is a duration: a text such as `1h30m`, whole seconds, or an expression.
    pub(crate) fn duration(&self, name: &str) -> syn::Result<Option<TokenStream>> {
        self.value(name)?.map(|value| duration(value, false)).transpose()
    }

    /// As [`duration`](Self::duration), or the name of a lifetime of the cache's: the wish of a call, and what it takes.
    pub(crate) fn lifetime(&self, name: &str) -> syn::Result<Option<(&'static str, TokenStream)>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        let named = match text(value).map(LitStr::value).as_deref() {
            Some("short") => quote!(Short),
            Some("default") => quote!(Default),
            Some("long") => quote!(Long),
            _ => return Ok(Some(("ttl", duration(value, true)?))),
        };
        Ok(Some(("ttl_of", quote!(::tideover::Ttl::#named))))
    }

    /// An option that is one of these words.
    pub(crate) fn word(&self, name: &str, words: &[&'static str]) -> syn::Result<Option<&'static str>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        let Some(text) = text(value) else {
            return Err(syn::Error::new_spanned(value, format!("`{name}` is a text: {}", suggestion("", words))));
        };
        match words.iter().find(|word| **word == text.value()) {
            Some(word) => Ok(Some(word)),
            None => {
                let meant = suggestion(&text.value(), words);
                Err(syn::Error::new(text.span(), format!("`{name}` cannot be {:?}; {meant}", text.value())))
            }
        }
    }
}

/// The text, if an expression is one.
pub(crate) fn text(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        Expr::Group(group) => text(&group.expr),
        _ => None,
    }
}

fn duration(value: &Expr, has_names: bool) -> syn::Result<TokenStream> {
    // What a macro hands on is a group.
    if let Expr::Group(group) = value {
        return duration(&group.expr, has_names);
    }
    if let Expr::Lit(ExprLit { lit: Lit::Int(seconds), .. }) = value
        && seconds.suffix().is_empty()
    {
        let seconds: u64 = seconds.base10_parse()?;
        return Ok(quote!(::core::time::Duration::from_secs(#seconds)));
    }
    let Some(text) = text(value) else {
        return Ok(quote_spanned!(value.span()=> { let __duration: ::core::time::Duration = #value; __duration }));
    };
    match parse_duration(&text.value()) {
        Ok(duration) => {
            let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
            Ok(quote!(::core::time::Duration::new(#seconds, #nanos)))
        }
        Err(expected) => {
            let or = if has_names { ", or one of `short`, `default` and `long`" } else { "" };
            Err(syn::Error::new(text.span(), format!("{:?} is no duration: {expected}{or}", text.value())))
        }
    }
}

/// A key as it is written: one text, or the texts of a tuple with colons between them.
pub(crate) fn key(value: &Expr) -> syn::Result<Template> {
    match value {
        Expr::Tuple(ExprTuple { elems, .. }) if !elems.is_empty() => {
            let parts =
                elems.iter().map(|part| Template::read(expected_text(part)?)).collect::<syn::Result<Vec<_>>>()?;
            Ok(Template::joined(parts))
        }
        _ => Template::read(expected_text(value)?),
    }
}

fn expected_text(value: &Expr) -> syn::Result<&LitStr> {
    let expected = "a key is a text such as \"user:{user_id}\", or a tuple of such";
    text(value).ok_or_else(|| syn::Error::new_spanned(value, expected))
}

/// One of several keys, tags or patterns.
pub(crate) enum Name {
    Template(Template),
    Computed(Expr),
}

/// Keys, tags or patterns as they are written.
pub(crate) enum Names {
    /// One by one.
    Each(Vec<Name>),
    /// What a function or closure says of the arguments.
    Said(Expr),
    /// An expression that is all of them.
    All(Expr),
}

impl Names {
    pub(crate) fn read(value: &Expr) -> syn::Result<Self> {
        Self::of(value, Template::read)
    }

    /// As [`read`](Self::read), patterns over keys.
    pub(crate) fn patterns(value: &Expr) -> syn::Result<Self> {
        Self::of(value, Template::pattern)
    }

    fn of(value: &Expr, read: fn(&LitStr) -> syn::Result<Template>) -> syn::Result<Self> {
        Ok(match value {
            Expr::Array(ExprArray { elems, .. }) => {
                let name = |element: &Expr| match text(element) {
                    Some(text) => read(text).map(Name::Template),
                    None => Ok(Name::Computed(element.clone())),
                };
                Self::Each(elems.iter().map(name).collect::<syn::Result<_>>()?)
            }
            Expr::Path(_) | Expr::Closure(_) => Self::Said(value.clone()),
            _ => match text(value) {
                Some(text) => Self::Each(vec![Name::Template(read(text)?)]),
                None => Self::All(value.clone()),
            },
        })
    }
}
