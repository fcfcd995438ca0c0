//! What the attributes refuse, they refuse with a message that says why. `UPDATE_REFUSED=1` writes the messages anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, Meta, TraitItem};

#[test]
fn mistakes_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files: Vec<_> = fs::read_dir(folder.join("ui"))
        .expect("the examples of mistakes")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let mut told = String::new();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let items = syn::parse_file(&fs::read_to_string(&file).expect("a file")).expect("Rust").items;
        items.into_iter().for_each(|item| explain(&mut told, &name, item));
    }
    let expected = folder.join("refused.txt");
    if env::var_os("UPDATE_REFUSED").is_some() {
        fs::write(&expected, &told).expect("it is written");
    }
    assert_eq!(told, fs::read_to_string(&expected).expect("the expected messages"), "UPDATE_REFUSED=1 writes them");
}

fn explain(told: &mut String, file: &str, item: Item) {
    match item {
        Item::Fn(mut function) => {
            let (name, mut attributes) = (function.sig.ident.to_string(), function.attrs.clone());
            explain_one(told, (file, &name), &mut attributes, |attrs| {
                function.attrs = attrs;
                function.to_token_stream()
            });
        }
        Item::Impl(block) => {
            for item in block.items {
                if let ImplItem::Fn(mut method) = item {
                    explain_one(told, (file, &method.sig.ident.to_string()), &mut method.attrs.clone(), |attrs| {
                        method.attrs = attrs;
                        method.to_token_stream()
                    });
                }
            }
        }
        Item::Trait(declared) => {
            for item in declared.items {
                if let TraitItem::Fn(mut method) = item {
                    explain_one(told, (file, &method.sig.ident.to_string()), &mut method.attrs.clone(), |attrs| {
                        method.attrs = attrs;
                        method.to_token_stream()
                    });
                }
            }
        }
        _ => {}
    }
}

fn explain_one(
    told: &mut String,
    (file, name): (&str, &str),
    attributes: &mut Vec<Attribute>,
    without: impl FnOnce(Vec<Attribute>) -> TokenStream,
) {
    let named = |attribute: &Attribute| attribute.path().segments.last().map(|last| last.ident.to_string());
    let ours = |attribute: &Attribute| matches!(named(attribute).as_deref(), Some("cached" | "invalidates"));
    let Some(place) = attributes.iter().position(ours) else { return };
    let attribute = attributes.remove(place);
    let options = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    let item = without(std::mem::take(attributes));
    let expand = if named(&attribute).as_deref() == Some("cached") {
        crate::cached::cached
    } else {
        crate::invalidates::invalidates
    };
    // Whatever else is wrong with it is for the compiler to say.
    let Err(refused) = expand(options, item) else { return };
    for refused in refused {
        // Writing to a string does not fail.
        let _ = writeln!(told, "{file}: {name}: {refused}");
    }
}
