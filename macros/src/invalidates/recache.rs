//! What is loaded anew after a write: calls of cached functions, as they would be written.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprArray, ExprCall, ExprMethodCall, ExprPath, Path, PathArguments, PathSegment, Token};

use super::{One, Taken, lent_of, mentioned, own_name};
use crate::options::Options;
use crate::signature::{Function, Passing, mentions, renamed_self};

/// The calls, as calls of their warmers.
#[derive(Default)]
pub(super) struct Recached {
    calls: Vec<TokenStream>,
    mentioned: Vec<String>,
    has_result: bool,
}

impl Recached {
    pub(super) fn read(options: &Options, function: &Function) -> syn::Result<Self> {
        let Some(value) = options.value("recache")? else {
            for name in ["recache_max", "recache_wait"] {
                if let Some(ident) = options.name(name) {
                    return Err(syn::Error::new(ident.span(), format!("`{name}` without `recache` means nothing")));
                }
            }
            return Ok(Self::default());
        };
        let Expr::Array(ExprArray { elems, .. }) = value else {
            let message = "`recache` is a list of calls of cached functions: `recache = [user(user_id), org(org_id)]`";
            return Err(syn::Error::new_spanned(value, message));
        };
        let calls = elems.iter().map(warmer).collect::<syn::Result<Vec<_>>>()?;
        let mentioned = calls.iter().flat_map(|call| mentioned(function, call)).collect();
        let has_result = function.arguments.iter().any(|argument| argument.name == "result");
        Ok(Self { calls, mentioned, has_result })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The arguments that are needed when the body has used them up.
    pub(super) fn mentioned(&self) -> &[String] {
        &self.mentioned
    }

    /// Hands the warmers to a write.
    pub(super) fn warm(&self, taken: &Taken<'_>) -> TokenStream {
        let warm = self.calls.iter().map(|call| {
            let used: Vec<_> = taken.all.iter().filter(|one| mentions(call, &one.name.to_string())).collect();
            let copies: Vec<_> = used.iter().map(|one| &one.copy).collect();
            let bind = used.iter().map(|one| bind(one));
            let has_result = mentions(call, "result") && !self.has_result;
            let result = has_result.then(|| quote!(let result = ::core::clone::Clone::clone(result);));
            let call = renamed_self(call.clone(), &Ident::new("__this", Span::call_site()));
            quote! {
                .warm({
                    #(let #copies = ::core::clone::Clone::clone(&#copies);)*
                    #result
                    async move { #(#bind)* #call.await }
                })
            }
        });
        warm.collect()
    }
}

/// The argument as the body had it: by value, or lent from the copy.
fn bind(one: &One<'_>) -> TokenStream {
    let (name, copy) = (own_name(&one.name), &one.copy);
    match one.passing {
        Some(passing @ Passing::Reference(_)) => {
            let lent = lent_of(&passing.lend(copy), copy);
            quote!(let #name = #lent;)
        }
        Some(passing @ Passing::Optional(_)) => {
            let lent = passing.lend(copy);
            quote!(let #name = #lent;)
        }
        _ => quote!(let #name = #copy;),
    }
}

/// The call of a cached function, as a call of what warms it.
fn warmer(call: &Expr) -> syn::Result<TokenStream> {
    match call {
        Expr::Await(awaited) => warmer(&awaited.base),
        Expr::Group(group) => warmer(&group.expr),
        Expr::Paren(paren) => warmer(&paren.expr),
        Expr::Call(ExprCall { func, args, .. }) => match &**func {
            Expr::Path(function) => called(function, args),
            other => Err(refused(other)),
        },
        Expr::MethodCall(call) => {
            if let Some(named) = call.args.iter().find(|argument| matches!(argument, Expr::Assign(_))) {
                let message =
                    "arguments of methods cannot be named here: their names are not known; write them in order";
                return Err(syn::Error::new_spanned(named, message));
            }
            let method = warmer_of_type(&call.method);
            Ok(ExprMethodCall { method, ..call.clone() }.to_token_stream())
        }
        other => Err(refused(other)),
    }
}

fn refused(other: &Expr) -> syn::Error {
    syn::Error::new_spanned(
        other,
        "`recache` takes calls of cached functions, such as `user(user_id)` or `self.user(user_id)`",
    )
}

fn called(function: &ExprPath, args: &Punctuated<Expr, Token![,]>) -> syn::Result<TokenStream> {
    let (path, of_type) = warmer_path(&function.path);
    let mut names = Vec::new();
    let mut values = Vec::new();
    for argument in args {
        match argument {
            Expr::Assign(assigned) => {
                names.push(&assigned.left);
                values.push(&*assigned.right);
            }
            other => values.push(other),
        }
    }
    let called = quote!(#path(#(#values),*));
    let Some(first) = names.first() else { return Ok(called) };
    if of_type || names.len() != values.len() {
        let message = "name all arguments of a free function, or none: they are handed on in this order";
        return Err(syn::Error::new_spanned(first, message));
    }
    let mut own_type = function.path.clone();
    if let Some(last) = own_type.segments.last_mut() {
        last.arguments = PathArguments::None;
    }
    let written = own_type.to_token_stream().to_string().replace(' ', "");
    let check = names.iter().enumerate().map(|(place, name)| {
        let text = name.to_token_stream().to_string();
        let message = format!("argument {} of `{written}` is not called `{text}`", place + 1);
        quote_spanned!(name.span()=>
            const _: () =
                ::core::assert!(::tideover::function::is_named(#own_type::__ARGUMENTS, #place, #text), #message);
        )
    });
    Ok(quote!({ #(#check)* #called }))
}

/// The path to what warms a function, and whether the function belongs to a type.
fn warmer_path(function: &Path) -> (Path, bool) {
    let mut path = function.clone();
    let before = path.segments.iter().rev().nth(1).map(|segment| segment.ident.to_string());
    let of_type = before.is_some_and(|before| before.starts_with(char::is_uppercase));
    let mut arguments = PathArguments::None;
    if let Some(last) = path.segments.last_mut() {
        if of_type {
            last.ident = warmer_of_type(&last.ident);
        } else {
            arguments = std::mem::replace(&mut last.arguments, PathArguments::None);
        }
    }
    if !of_type {
        path.segments.push(PathSegment { ident: Ident::new("__warm", function.span()), arguments });
    }
    (path, of_type)
}

fn warmer_of_type(function: &Ident) -> Ident {
    format_ident!("__tideover_warm_{function}", span = function.span())
}
