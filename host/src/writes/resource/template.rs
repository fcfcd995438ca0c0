//! Keys and tags with a place for one id.

use std::fmt;

/// Text with any number of places for the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// What stands before, between and behind the places.
    texts: Vec<String>,
}

/// Why a template of a [`Resource`](super::Resource) cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It names something else than the id.
    #[error("the template `{template}` names `{{{placeholder}}}`; the resource knows `{{{id}}}`")]
    Unknown {
        /// The template.
        template: String,
        /// What it names.
        placeholder: String,
        /// What ids are called.
        id: String,
    },
    /// A brace has no partner; `{{` and `}}` stand for braces.
    #[error("the template `{template}` has a brace without a partner")]
    Unbalanced {
        /// The template.
        template: String,
    },
    /// The key would be the same for every id.
    #[error("the template `{template}` does not name `{{{id}}}`: all ids would share one key")]
    Constant {
        /// The template.
        template: String,
        /// What ids are called.
        id: String,
    },
}

impl Template {
    pub(super) fn ending_in_id(text: &str) -> Self {
        Self { texts: vec![text.to_owned(), String::new()] }
    }

    pub(super) fn parse(template: &str, id: &str) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced { template: template.to_owned() };
        let (mut texts, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                text.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let (placeholder, after) =
                brace.strip_prefix('{').and_then(|open| open.split_once('}')).ok_or_else(unbalanced)?;
            if placeholder != id {
                let (template, placeholder) = (template.to_owned(), placeholder.to_owned());
                return Err(TemplateError::Unknown { template, placeholder, id: id.to_owned() });
            }
            texts.push(std::mem::take(&mut text));
            rest = after;
        }
        text.push_str(rest);
        texts.push(text);
        Ok(Self { texts })
    }

    pub(super) fn is_constant(&self) -> bool {
        self.texts.len() == 1
    }

    pub(super) fn with(&self, escaped_id: &str) -> String {
        self.texts.join(escaped_id)
    }
}

/// The text of an id, or a name, such that it cannot run into what stands beside it.
pub(super) fn escaped(id: &(impl fmt::Display + ?Sized)) -> String {
    id.to_string().replace('%', "%25").replace(':', "%3A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_wherever_the_template_names_it() {
        for (template, key) in [
            ("v2:user:{id}:profile", "v2:user:7:profile"),
            ("{id}/{id}", "7/7"),
            ("{{id}}:{id}", "{id}:7"),
            ("profiles", "profiles"),
        ] {
            assert_eq!(Template::parse(template, "id").expect("a template").with("7"), key, "{template}");
        }
    }

    #[test]
    fn what_a_template_cannot_name_is_said_by_name() {
        let error = |template| Template::parse(template, "id").expect_err("not a template").to_string();
        assert_eq!(error("a:{name}"), "the template `a:{name}` names `{name}`; the resource knows `{id}`");
        for unbalanced in ["a:{id", "a:}", "{"] {
            assert!(error(unbalanced).contains("without a partner"), "{unbalanced}");
        }
    }

    #[test]
    fn no_two_ids_are_written_alike() {
        let ids = ["1:2", "1%3A2", "1", "2", "1%2", "1%252", ""];
        let written: std::collections::HashSet<_> = ids.iter().map(|id| escaped(*id)).collect();
        assert_eq!(written.len(), ids.len());
        assert!(written.iter().all(|id| !id.contains(':')));
    }
}
