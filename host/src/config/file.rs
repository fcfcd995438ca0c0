//! What a file says, in TOML.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::nearest::unknown;
use super::options::{keys_of, of_key};
use super::origin::Origin;
use super::setting::{Said, Setting};

/// The longest file that is read. Ours have a hundred lines.
const BYTES_MAX: u64 = 256 * 1024;

/// Syntax errors of one file that are told; what comes after a mistake is often its consequence.
const SYNTAX_ERRORS_MAX: usize = 5;

/// The tables that options lie in; those of the table `cache` are those of the top level.
const TABLES: [&str; 3] = ["policy", "redis", "ttl"];

/// One file on its way to settings.
pub(super) struct Source<'a> {
    path: Arc<str>,
    text: &'a str,
    /// How many files came before.
    number: usize,
    /// Keys and tables of the top level that are somebody else's.
    others: &'a [String],
    /// Where lines end.
    line_ends: Vec<usize>,
}

/// The bytes of a file that is not too long.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("the file is longer than {BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

impl<'a> Source<'a> {
    pub(super) fn new(path: Arc<str>, text: &'a str, number: usize, others: &'a [String]) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path, text, number, others, line_ends }
    }

    /// Takes what the file says.
    pub(super) fn read(&self, said: &mut Said) {
        let (document, mut errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return self.top_level(document.get_ref(), said);
        }
        said.incomplete = true;
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            let origin = self.origin(error.span().map_or(0, |span| span.start));
            // The message says what was expected; the text itself, which may hold a password, is not in it.
            said.refuse("", &origin, format!("is not TOML: {}", error.message().replace('\n', " ")));
        }
    }

    fn top_level(&self, table: &DeTable<'_>, said: &mut Said) {
        let mine = |key: &str| !self.others.iter().any(|other| other == key);
        for (key, value) in
            table.iter().filter(|(key, value)| mine(key.get_ref()) || is_own_table(key.get_ref(), value))
        {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("cache", DeValue::Table(cache)) => {
                    for (key, value) in cache {
                        self.entry(key, value, said);
                    }
                }
                _ => self.entry(key, value, said),
            }
        }
    }

    /// A key of the top level, or of the table that stands for it.
    fn entry(&self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, said: &mut Said) {
        let name = key.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(table) if TABLES.contains(&name) => {
                for (key, value) in table {
                    self.option(name, key, value, said);
                }
            }
            _ if TABLES.contains(&name) => {
                said.refuse(name, &self.origin(key.span().start), format!("is a table: write [{name}]"));
            }
            _ => self.option("", key, value, said),
        }
    }

    fn option(&self, table: &str, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, said: &mut Said) {
        let (name, origin) = (key.get_ref().as_ref(), self.origin(key.span().start));
        let spelled = if table.is_empty() { name.to_owned() } else { format!("[{table}] {name}") };
        let Some(option) = of_key(table, name) else {
            return said.refuse(&spelled, &origin, self.unknown_key(table, name));
        };
        match text_of(value.get_ref()) {
            Ok(text) if text.is_empty() => {
                said.refuse(&spelled, &origin, "is empty; leave the key out, or give it a value");
            }
            Ok(text) => said.settings.push(Setting::new(option, text, origin)),
            Err(kind) => {
                said.refuse(&spelled, &origin, format!("is {kind}; expected text, a whole number, true or false"));
            }
        }
    }

    fn unknown_key(&self, table: &str, name: &str) -> String {
        let elsewhere = TABLES.into_iter().chain([""]).find(|other| *other != table && of_key(other, name).is_some());
        match elsewhere {
            Some("") => "belongs to the top level, or into [cache]".to_owned(),
            Some(other) => format!("belongs into the table [{other}]"),
            None => {
                let tables = TABLES.into_iter().chain(["cache"]).filter(|_| table.is_empty());
                let others = self.others.iter().map(String::as_str).filter(|_| table.is_empty());
                unknown("key", name, keys_of(table).into_iter().chain(tables).chain(others))
            }
        }
    }

    fn origin(&self, at: usize) -> Origin {
        let line = self.line_ends.partition_point(|end| *end < at) + 1;
        Origin::File { path: Arc::clone(&self.path), line, number: self.number }
    }
}

/// Whether it is a table of ours although others have a key of that name.
fn is_own_table(key: &str, value: &Spanned<DeValue<'_>>) -> bool {
    TABLES.contains(&key) && value.get_ref().as_table().is_some()
}

/// A value as the text of an option.
fn text_of(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.trim().to_owned()),
        DeValue::Integer(number) => {
            let whole = i128::from_str_radix(number.as_str(), number.radix());
            whole.map(|whole| whole.to_string()).map_err(|_| "a number beyond all limits")
        }
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Float(_) => Err("a fraction"),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Array(_) => Err("a list"),
        DeValue::Table(_) => Err("a table"),
    }
}
