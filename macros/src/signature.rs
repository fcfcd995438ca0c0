//! A function as the attributes see it: its arguments, how they are handed to a load that outlives the call, and the shape
//! of what it returns.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Expr, FnArg, GenericArgument, GenericParam, ItemFn, Lifetime, Pat, PatIdent, PathArguments, Receiver, ReturnType,
    Signature, Type, TypePath, TypeReference,
};

/// How a load gets an argument.
pub(crate) enum Passing {
    /// As a clone.
    Value(Type),
    /// As a reference to a copy.
    Reference(TypeReference),
    /// As a reference to a copy, if there is one.
    Optional(TypeReference),
    /// Not at all: it is `&mut`.
    Exclusive,
}

/// An argument other than `self`.
pub(crate) struct Argument {
    /// Its name, or one of ours for what a pattern takes apart.
    pub(crate) name: Ident,
    /// Without `mut`, if it is more than a name.
    pub(crate) pattern: Option<Pat>,
    /// What the pattern binds.
    pub(crate) names: Vec<Ident>,
    pub(crate) ty: Type,
    pub(crate) passing: Passing,
}

/// `self`.
pub(crate) struct Owner {
    pub(crate) token: Ident,
    pub(crate) passing: Passing,
}

/// The function that an attribute stands on.
pub(crate) struct Function {
    pub(crate) item: ItemFn,
    pub(crate) owner: Option<Owner>,
    pub(crate) arguments: Vec<Argument>,
}

impl Function {
    pub(crate) fn read(item: ItemFn) -> Self {
        let (mut owner, mut arguments) = (None, Vec::new());
        for (place, input) in item.sig.inputs.iter().enumerate() {
            match input {
                FnArg::Receiver(receiver) => owner = Some(Owner::read(receiver)),
                FnArg::Typed(argument) => arguments.push(Argument::read(place, &argument.pat, &argument.ty)),
            }
        }
        Self { item, owner, arguments }
    }

    pub(crate) fn name(&self) -> &Ident {
        &self.item.sig.ident
    }

    pub(crate) fn is_async(&self) -> bool {
        self.item.sig.asyncness.is_some()
    }

    /// Whether it names the type that it belongs to.
    pub(crate) fn mentions_own_type(&self) -> bool {
        mentions(&self.item.sig.to_token_stream(), "Self") || mentions(&self.item.block.to_token_stream(), "Self")
    }

    /// Its generic arguments, for a call that leaves nothing to be inferred.
    pub(crate) fn turbofish(&self) -> TokenStream {
        let arguments: Vec<_> = self.type_parameters().collect();
        if arguments.is_empty() { TokenStream::new() } else { quote!(::<#(#arguments),*>) }
    }

    /// The names of its type parameters and constants.
    fn type_parameters(&self) -> impl Iterator<Item = &Ident> {
        self.item.sig.generics.params.iter().filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => Some(&parameter.ident),
            GenericParam::Const(parameter) => Some(&parameter.ident),
            GenericParam::Lifetime(_) => None,
        })
    }

    /// What it is called for, as texts: its types and constants.
    pub(crate) fn types(&self) -> Vec<TokenStream> {
        let parameters = self.item.sig.generics.params.iter().filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => {
                let name = &parameter.ident;
                Some(quote!(::core::any::type_name::<#name>()))
            }
            GenericParam::Const(parameter) => {
                let name = &parameter.ident;
                Some(quote!(&::std::format!("{:?}", #name)))
            }
            GenericParam::Lifetime(_) => None,
        });
        let opaque = self.arguments.iter().filter(|argument| is_opaque(&argument.ty)).map(|argument| {
            let name = &argument.name;
            quote!(::core::any::type_name_of_val(#name))
        });
        parameters.chain(opaque).collect()
    }

    /// The signature with a plain name for each argument.
    pub(crate) fn plain_signature(&self) -> Signature {
        let mut signature = self.item.sig.clone();
        let mut arguments = self.arguments.iter();
        for input in &mut signature.inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    receiver.attrs.clear();
                    if receiver.reference.is_none() {
                        receiver.mutability = None;
                    }
                }
                FnArg::Typed(typed) => {
                    typed.attrs.clear();
                    if let Some(argument) = arguments.next() {
                        *typed.pat = Pat::Ident(PatIdent {
                            attrs: Vec::new(),
                            by_ref: None,
                            mutability: None,
                            ident: argument.name.clone(),
                            subpat: None,
                        });
                    }
                }
            }
        }
        signature
    }

    /// `self` and all arguments by name, as a call hands them on.
    pub(crate) fn handed_on(&self) -> TokenStream {
        let owner = self.owner.iter().map(|owner| &owner.token);
        let names = self.arguments.iter().map(|argument| &argument.name);
        let all = owner.chain(names);
        quote!(#(#all,)*)
    }

    /// `Self` or an argument can be named by a template.
    pub(crate) fn names(&self, owner: Option<&Ident>) -> crate::template::Names {
        let mut names = crate::template::Names::default();
        for argument in &self.arguments {
            if argument.pattern.is_none() {
                names.add(&argument.name, &argument.name, true);
            }
            for name in &argument.names {
                names.add(name, name, false);
            }
        }
        if let (Some(owner), Some(this)) = (&self.owner, owner) {
            names.add(&owner.token, this, false);
        }
        names
    }
}

impl Owner {
    fn read(receiver: &Receiver) -> Self {
        let token = Ident::new("self", receiver.self_token.span);
        let passing = match &receiver.reference {
            Some(_) if receiver.mutability.is_some() => Passing::Exclusive,
            Some((and_token, lifetime)) => Passing::Reference(TypeReference {
                and_token: *and_token,
                lifetime: lifetime.clone(),
                mutability: None,
                elem: Box::new(syn::parse_quote_spanned!(receiver.self_token.span=> Self)),
            }),
            None => Passing::of(&receiver.ty),
        };
        Self { token, passing }
    }

    /// `self` for the method, out of the reference `from` to what the load took along.
    pub(crate) fn lend(&self, from: &Ident) -> TokenStream {
        match &self.passing {
            Passing::Reference(_) => quote!(#from),
            other => other.lend(from),
        }
    }
}

impl Argument {
    fn read(place: usize, pattern: &Pat, ty: &Type) -> Self {
        let passing = Passing::of(ty);
        if let Pat::Ident(PatIdent { ident, by_ref: None, subpat: None, .. }) = pattern {
            return Self { name: ident.clone(), pattern: None, names: Vec::new(), ty: ty.clone(), passing };
        }
        let mut bound = Bound::default();
        bound.visit_pat(pattern);
        let mut pattern = pattern.clone();
        Unmut.visit_pat_mut(&mut pattern);
        let name = format_ident!("argument_{place}");
        Self { name, pattern: Some(pattern), names: bound.0, ty: ty.clone(), passing }
    }

    /// The names by which the body and the options know it, or its parts.
    pub(crate) fn known_as(&self) -> &[Ident] {
        if self.pattern.is_some() { &self.names } else { std::slice::from_ref(&self.name) }
    }

    /// Binds names to references, where the argument itself is still there.
    pub(crate) fn borrow(&self) -> TokenStream {
        let name = &self.name;
        let named = match self.passing {
            Passing::Value(_) | Passing::Optional(_) => self.bind(&quote!(&#name)),
            Passing::Reference(_) => TokenStream::new(),
            Passing::Exclusive => self.bind(&quote!(&*#name)),
        };
        let parts = self.bind_parts();
        quote!(#named #parts)
    }

    /// Binds names to references, where `from` refers to what the load took along.
    pub(crate) fn borrow_from(&self, from: &Ident) -> TokenStream {
        let lent = self.passing.lend(from);
        let named = self.bind(&match &self.passing {
            Passing::Value(_) | Passing::Exclusive => quote!(#from),
            Passing::Reference(_) => lent,
            Passing::Optional(_) => quote!(&#lent),
        });
        let parts = self.bind_parts();
        quote!(#named #parts)
    }

    fn bind(&self, value: &TokenStream) -> TokenStream {
        let name = &self.name;
        quote!(#[allow(unused_variables)] let #name = #value;)
    }

    fn bind_parts(&self) -> TokenStream {
        let (name, pattern) = (&self.name, self.pattern.iter());
        quote!(#(#[allow(unused_variables)] let #pattern = #name;)*)
    }
}

impl Passing {
    fn of(ty: &Type) -> Self {
        match plain(ty) {
            Type::Reference(reference) if reference.mutability.is_some() => Self::Exclusive,
            Type::Reference(reference) => Self::Reference(reference.clone()),
            other => match generic(other, "Option").map(plain) {
                Some(Type::Reference(reference)) if reference.mutability.is_none() => Self::Optional(reference.clone()),
                _ => Self::Value(ty.clone()),
            },
        }
    }

    /// What the load takes along of `name`.
    pub(crate) fn take(&self, name: &Ident) -> TokenStream {
        match self {
            Self::Value(ty) if is_opaque(ty) => quote_spanned!(ty.span()=> ::tideover::function::argument(#name)),
            Self::Value(ty) => quote_spanned!(ty.span()=> ::tideover::function::argument::<#ty>(#name)),
            Self::Reference(TypeReference { elem, .. }) if is_opaque(elem) => {
                quote_spanned!(elem.span()=> ::core::clone::Clone::clone(#name))
            }
            Self::Reference(TypeReference { elem, .. }) if *name == "self" => {
                quote_spanned!(name.span()=> ::tideover::function::owner::<#elem>(#name))
            }
            Self::Reference(TypeReference { elem, .. }) => {
                quote_spanned!(elem.span()=> ::tideover::function::own::<#elem>(#name))
            }
            Self::Optional(TypeReference { elem, .. }) => {
                quote_spanned!(elem.span()=> #name.map(|__lent| ::tideover::function::own::<#elem>(__lent)))
            }
            Self::Exclusive => quote!(#name),
        }
    }

    /// The argument for the function, out of the reference `from` to what the load took along.
    pub(crate) fn lend(&self, from: &Ident) -> TokenStream {
        match self {
            Self::Value(_) | Self::Exclusive => quote!(::core::clone::Clone::clone(#from)),
            Self::Reference(TypeReference { elem, .. }) if is_opaque(elem) => quote!(#from),
            Self::Reference(TypeReference { elem, .. }) => {
                quote_spanned!(placed(elem.span())=> ::tideover::function::lent::<#elem>(#from))
            }
            Self::Optional(TypeReference { elem, .. }) => {
                quote!(#from.as_ref().map(|__owned| ::tideover::function::lent::<#elem>(__owned)))
            }
        }
    }

    /// A lifetime in it that ends with the call, so that a load cannot take it along.
    pub(crate) fn borrowed(&self) -> Option<TokenStream> {
        let mut found = Borrowed::default();
        match self {
            Self::Value(ty) => found.visit_type(ty),
            Self::Reference(reference) | Self::Optional(reference) => found.visit_type(&reference.elem),
            Self::Exclusive => {}
        }
        found.0
    }
}

/// What a function returns.
pub(crate) struct Returned {
    /// Its error, if it can fail.
    pub(crate) error: Option<Type>,
    /// Whether nothing is a remembered absence.
    pub(crate) optional: bool,
    /// Whether values are shared, not cloned.
    pub(crate) shared: bool,
    /// What is cached.
    pub(crate) value: Type,
}

impl Returned {
    /// The shape of `ty`; an `Option` is one only if absences are remembered.
    pub(crate) fn read(ty: &Type, absences: bool) -> Option<Self> {
        let (mut error, mut value) = (None, plain(ty).clone());
        if is_result(ty) {
            let mut given = generics(&value).into_iter();
            let (first, second) = (given.next().cloned(), given.next().cloned());
            error = second.or_else(|| Some(syn::parse_quote!(<#ty as ::tideover::function::Fallible>::Error)));
            value = first.unwrap_or_else(|| syn::parse_quote!(<#ty as ::tideover::function::Fallible>::Value));
        }
        if absences {
            value = generic(&value, "Option")?.clone();
        }
        let (shared, value) = match generic(&value, "Arc") {
            Some(inner) => (true, inner.clone()),
            None => (false, value),
        };
        Some(Self { error, optional: absences, shared, value })
    }
}

/// Whether a type has no size of its own, as far as its text says so: serde reads values into types that have one.
pub(crate) fn is_unsized(ty: &Type) -> bool {
    match plain(ty) {
        Type::Slice(_) | Type::TraitObject(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Whether a type is called a result.
pub(crate) fn is_result(ty: &Type) -> bool {
    matches!(plain(ty), Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result"))
}

/// The type that a function returns, if it returns something.
pub(crate) fn returned(signature: &Signature) -> Option<&Type> {
    match &signature.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some(ty),
    }
}

/// Whether `impl Trait` is part of it.
pub(crate) fn is_opaque(ty: &Type) -> bool {
    let mut found = Opaque::default();
    found.visit_type(ty);
    found.0
}

/// A set in it that serde writes in the order of its hashes, as far as its name says so. (Maps are written sorted.)
pub(crate) fn unordered(ty: &Type) -> Option<&TypePath> {
    let mut found = Unordered::default();
    found.visit_type(ty);
    found.0
}

/// The span, for what does not stand there itself: neither lints nor proposals of the compiler are about it.
pub(crate) fn placed(span: Span) -> Span {
    Span::call_site().located_at(span)
}

fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => plain(&group.elem),
        Type::Paren(paren) => plain(&paren.elem),
        _ => ty,
    }
}

/// The only generic argument of a type of that name.
fn generic<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = plain(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    match arguments_of(&last.arguments).as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

fn generics(ty: &Type) -> Vec<&Type> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| arguments_of(&last.arguments)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn arguments_of(arguments: &PathArguments) -> Vec<&Type> {
    let PathArguments::AngleBracketed(given) = arguments else { return Vec::new() };
    let types = given.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Whether the word is among the tokens.
pub(crate) fn mentions(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => mentions(&group.stream(), word),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Whether an expression names the value `self`, not the module.
pub(crate) fn names_self(expression: &Expr) -> bool {
    let mut found = NamesSelf::default();
    found.visit_expr(expression);
    found.0
}

/// The tokens with `self` under another name.
pub(crate) fn renamed_self(tokens: TokenStream, this: &Ident) -> TokenStream {
    let renamed = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if ident == "self" => {
            let mut this = this.clone();
            this.set_span(this.span().located_at(ident.span()));
            TokenTree::Ident(this)
        }
        TokenTree::Group(group) => {
            let mut inner = proc_macro2::Group::new(group.delimiter(), renamed_self(group.stream(), this));
            inner.set_span(group.span());
            TokenTree::Group(inner)
        }
        other => other,
    });
    renamed.collect()
}

/// What a pattern binds.
#[derive(Default)]
struct Bound(Vec<Ident>);

impl<'ast> Visit<'ast> for Bound {
    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        self.0.push(pattern.ident.clone());
        visit::visit_pat_ident(self, pattern);
    }
}

/// Takes `mut` away: what is bound by reference cannot be changed.
struct Unmut;

impl VisitMut for Unmut {
    fn visit_pat_ident_mut(&mut self, pattern: &mut PatIdent) {
        pattern.mutability = None;
        visit_mut::visit_pat_ident_mut(self, pattern);
    }
}

#[derive(Default)]
struct Opaque(bool);

impl<'ast> Visit<'ast> for Opaque {
    fn visit_type_impl_trait(&mut self, _opaque: &'ast syn::TypeImplTrait) {
        self.0 = true;
    }
}

#[derive(Default)]
struct NamesSelf(bool);

impl<'ast> Visit<'ast> for NamesSelf {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0 |= path.is_ident("self");
        visit::visit_path(self, path);
    }
}

/// The first set without an order, itself or inside of what is written as it stands. What a type of somebody's own makes of
/// its parameters nobody knows: it may sort them.
#[derive(Default)]
struct Unordered<'ast>(Option<&'ast TypePath>);

const SETS: &[&str] = &["HashSet", "AHashSet", "FxHashSet", "DashSet"];
const WRITTEN_AS_THEY_STAND: &[&str] =
    &["Option", "Result", "Box", "Rc", "Arc", "Cow", "Vec", "VecDeque", "HashMap", "BTreeMap", "IndexMap"];

impl<'ast> Visit<'ast> for Unordered<'ast> {
    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        let is_any_of =
            |names: &[&str]| ty.path.segments.last().is_some_and(|last| names.iter().any(|name| last.ident == name));
        if is_any_of(SETS) {
            self.0.get_or_insert(ty);
        } else if is_any_of(WRITTEN_AS_THEY_STAND) {
            visit::visit_type_path(self, ty);
        }
    }
}

/// Lifetimes other than `'static`. Those of the arguments of functions end when these are called.
#[derive(Default)]
struct Borrowed(Option<TokenStream>);

impl<'ast> Visit<'ast> for Borrowed {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert_with(|| lifetime.to_token_stream());
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if reference.lifetime.is_none() {
            self.0.get_or_insert_with(|| reference.to_token_stream());
        }
        visit::visit_type_reference(self, reference);
    }

    fn visit_type_bare_fn(&mut self, _function: &'ast syn::TypeBareFn) {}

    fn visit_parenthesized_generic_arguments(&mut self, _arguments: &'ast syn::ParenthesizedGenericArguments) {}
}
