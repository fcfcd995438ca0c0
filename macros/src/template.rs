//! Templates of keys and tags, `org:{org.id}:user:{user_id}`, and of patterns over keys, `org:{org.id}:*`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Index, LitStr, Member};

use crate::nearest::suggestion;
use crate::signature::placed;

/// A text with places for values.
pub(crate) struct Template {
    pieces: Vec<Piece>,
    kind: Kind,
}

/// What becomes of a template.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A key or a tag.
    Name,
    /// A pattern over keys: `*` stands for any characters, `\` makes the next one literal, and all that a value brings is.
    Pattern,
}

enum Piece {
    Text(String),
    Value(Place),
}

/// A placeholder: an argument, and perhaps a field of it.
struct Place {
    root: String,
    members: Vec<Member>,
    /// As it stands between the braces.
    written: String,
    span: Span,
}

/// A text that depends on the result.
#[derive(Default)]
pub(crate) struct Later {
    /// Statements for the parts that do not.
    pub(crate) before: TokenStream,
    /// The names of these parts.
    pub(crate) kept: Vec<Ident>,
    /// The whole.
    pub(crate) text: TokenStream,
}

/// What placeholders can name, and the expressions for it, which are references.
#[derive(Default)]
pub(crate) struct Names(Vec<(String, Ident, bool)>);

impl Names {
    /// `name` is what `ident` is bound to, by reference or, for what a pattern took apart, by value.
    pub(crate) fn add(&mut self, name: &Ident, ident: &Ident, reference: bool) {
        self.0.push((name.unraw().to_string(), ident.clone(), reference));
    }

    fn find(&self, root: &str) -> Option<&(String, Ident, bool)> {
        self.0.iter().find(|(name, ..)| name == root)
    }

    fn all(&self) -> Vec<&str> {
        self.0.iter().map(|(name, ..)| name.as_str()).collect()
    }
}

impl Template {
    pub(crate) fn read(text: &LitStr) -> syn::Result<Self> {
        Self { pieces: pieces(text)?, kind: Kind::Name }.checked()
    }

    /// As [`read`](Self::read), a pattern over keys.
    pub(crate) fn pattern(text: &LitStr) -> syn::Result<Self> {
        let pieces = pieces(text)?;
        if pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if ends_escaping(text))) {
            let message = r"`\` makes the next character literal, but none follows it; a backslash is `\\`";
            return Err(syn::Error::new(text.span(), message));
        }
        Self { pieces, kind: Kind::Pattern }.checked()
    }

    /// One after the other, with colons between them.
    pub(crate) fn joined(parts: Vec<Self>) -> Self {
        let mut all = Vec::new();
        for part in parts {
            if !all.is_empty() {
                push(&mut all, ":");
            }
            for piece in part.pieces {
                match piece {
                    Piece::Text(text) => push(&mut all, &text),
                    place @ Piece::Value(_) => all.push(place),
                }
            }
        }
        Self { pieces: all, kind: Kind::Name }
    }

    /// Where a value ends must be seen in the key.
    fn checked(self) -> syn::Result<Self> {
        for (at, piece) in self.pieces.iter().enumerate() {
            let Piece::Value(value) = piece else { continue };
            let wrong = match (self.pieces.get(at + 1), self.end(at)) {
                (Some(Piece::Value(next)), _) => {
                    format!("nothing stands between `{{{}}}` and `{{{}}}`", value.written, next.written)
                }
                (Some(Piece::Text(text)), _) if self.kind == Kind::Pattern && text.starts_with('*') => {
                    let message = format!(
                        "`*` stands right behind `{{{}}}`, so where the value ends cannot be told; write what stands behind it \
                         in the keys between them, as in `{{{0}}}:*`",
                        value.written
                    );
                    return Err(syn::Error::new(value.span, message));
                }
                (_, Some(end)) if end == '%' || end.is_ascii_digit() || ('A'..='F').contains(&end) => {
                    format!("`{end}` stands behind `{{{}}}`", value.written)
                }
                _ => continue,
            };
            let message =
                format!("{wrong}, so two different calls could share a key; separate them, with `:` for example");
            return Err(syn::Error::new(value.span, message));
        }
        Ok(self)
    }

    /// The character of keys that ends the value at that place: none if it is the last.
    fn end(&self, at: usize) -> Option<char> {
        let Some(Piece::Text(text)) = self.pieces.get(at + 1) else { return None };
        let mut text = text.chars();
        match (text.next(), self.kind) {
            (Some('\\'), Kind::Pattern) => text.next(),
            (end, _) => end,
        }
    }

    /// Refuses placeholders that name nothing.
    pub(crate) fn check(&self, names: &Names, function: &Ident) -> syn::Result<()> {
        let mut wrong: Option<syn::Error> = None;
        for place in self.places().filter(|place| names.find(&place.root).is_none()) {
            let meant = match names.all() {
                all if all.is_empty() => "it has none".to_owned(),
                all => suggestion(&place.root, &all),
            };
            let (root, written) = (&place.root, &place.written);
            let message = format!("placeholder `{{{written}}}`: `{function}` has no argument `{root}`; {meant}");
            let error = syn::Error::new(place.span, message);
            match &mut wrong {
                None => wrong = Some(error),
                Some(errors) => errors.combine(error),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Whether a placeholder begins with `root`.
    pub(crate) fn mentions(&self, root: &str) -> bool {
        self.places().any(|place| place.root == root)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(place) => Some(place),
            Piece::Text(_) => None,
        })
    }

    /// The text with the values in it, as an expression.
    pub(crate) fn text(&self, names: &Names) -> TokenStream {
        let pieces = self.pieces.iter().enumerate().map(|(place, piece)| match piece {
            Piece::Text(text) => quote!(__text.push_str(#text);),
            Piece::Value(value) => self.insert(place, value, names),
        });
        quote!({ let mut __text = ::std::string::String::new(); #(#pieces)* __text })
    }

    /// As [`text`](Self::text) in two parts: what can be said at once, and the whole, once `result` is there.
    pub(crate) fn text_later(&self, names: &Names, unique: &str) -> Later {
        let mut later = Later::default();
        let mut text = TokenStream::new();
        for (place, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(piece) => text.extend(quote!(__text.push_str(#piece);)),
                Piece::Value(value) if value.root == "result" => text.extend(self.insert(place, value, names)),
                Piece::Value(value) => {
                    let part = Ident::new(&format!("__{unique}_{place}"), Span::call_site());
                    let insert = self.insert(place, value, names);
                    let before = quote!(let #part = { let mut __text = ::std::string::String::new(); #insert __text };);
                    later.before.extend(before);
                    text.extend(quote!(__text.push_str(&#part);));
                    later.kept.push(part);
                }
            }
        }
        later.text = quote!({ let mut __text = ::std::string::String::new(); #text __text });
        later
    }

    fn insert(&self, at: usize, place: &Place, names: &Names) -> TokenStream {
        let Some((_, ident, reference)) = names.find(&place.root) else { return TokenStream::new() };
        let end = match self.end(at) {
            Some(end) => quote!(::core::option::Option::Some(#end)),
            None => quote!(::core::option::Option::None),
        };
        let span = place.span.resolved_at(ident.span());
        let mut ident = ident.clone();
        ident.set_span(span);
        let members = &place.members;
        let value = match (members.is_empty(), reference) {
            (true, true) => quote_spanned!(span=> #ident),
            _ => quote_spanned!(span=> &#ident #(.#members)*),
        };
        let insert = match self.kind {
            Kind::Name => quote_spanned!(span=> insert),
            Kind::Pattern => quote_spanned!(span=> insert_literal),
        };
        quote_spanned!(span=> ::tideover::function::#insert(&mut __text, #value, #end);)
    }
}

/// Texts and placeholders, as they follow each other.
fn pieces(text: &LitStr) -> syn::Result<Vec<Piece>> {
    let (value, span) = (text.value(), text.span());
    let refuse = |message: String| syn::Error::new(span, message);
    let mut pieces = vec![Piece::Text(String::new())];
    let mut rest = value.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        push(&mut pieces, before);
        rest = match (from.get(..1), from.get(1..2)) {
            (Some("{"), Some("{")) | (Some("}"), Some("}")) => {
                push(&mut pieces, &from[..1]);
                &from[2..]
            }
            (Some("{"), _) => {
                let Some(end) = from.find('}') else {
                    return Err(refuse(format!("`{from}` has no end: a placeholder is `{{name}}`, a brace is `{{{{`")));
                };
                pieces.push(Piece::Value(Place::read(&from[1..end], span)?));
                &from[end + 1..]
            }
            _ => return Err(refuse("`}` without a placeholder before it; a brace is `}}`".to_owned())),
        };
    }
    push(&mut pieces, rest);
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(pieces)
}

/// Whether the last character of a piece of a pattern is a `\` that makes the next one literal.
fn ends_escaping(text: &str) -> bool {
    text.chars().rev().take_while(|character| *character == '\\').count() % 2 == 1
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

impl Place {
    fn read(written: &str, span: Span) -> syn::Result<Self> {
        let refuse = || {
            let message = format!(
                "placeholder `{{{written}}}`: between the braces stand an argument's name and, after dots, names or \
                 numbers of fields; a brace is `{{{{`"
            );
            syn::Error::new(span, message)
        };
        let mut parts = written.trim().split('.');
        let root = parts.next().filter(|root| is_name(root)).ok_or_else(refuse)?.to_owned();
        let members = parts.map(|part| member(part, span).ok_or_else(refuse)).collect::<syn::Result<_>>()?;
        Ok(Self { root, members, written: written.to_owned(), span })
    }
}

fn member(part: &str, span: Span) -> Option<Member> {
    // Else the compiler would propose to write the field that was meant in place of the whole text.
    let span = placed(span);
    if let Ok(index) = part.parse() {
        return Some(Member::Unnamed(Index { index, span }));
    }
    let name = match syn::parse_str::<Ident>(part) {
        Ok(_) => Ident::new(part, span),
        Err(_) if is_name(part) && !matches!(part, "_" | "self" | "Self" | "super" | "crate") => {
            Ident::new_raw(part, span)
        }
        Err(_) => return None,
    };
    Some(Member::Named(name))
}

fn is_name(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && characters.all(|next| next == '_' || next.is_alphanumeric())
}
