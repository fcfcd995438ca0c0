//! The words of a command.

use std::time::Duration;

use tideover::core::stamp::Version;
use tideover::core::time::parse_duration;
use tideover::core::{FlightId, LoaderId, Tag, Windows};
use tideover::engine::Payload;

/// The words that are left of a command. Those in quotes may hold spaces.
pub(super) struct Words(Vec<String>);

impl Words {
    pub(super) fn of(command: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        for (number, part) in command.split('"').enumerate() {
            if number % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        if command.matches('"').count() % 2 == 1 { Err("a quote is open".to_owned()) } else { Ok(Self(words)) }
    }

    /// The next word, which is to be `what`.
    pub(super) fn next(&mut self, what: &str) -> Result<String, String> {
        if self.0.is_empty() { Err(format!("expected {what}")) } else { Ok(self.0.remove(0)) }
    }

    pub(super) fn duration(&mut self) -> Result<Duration, String> {
        parse_duration(&self.next("a duration")?).map_err(str::to_owned)
    }

    pub(super) fn flight(&mut self) -> Result<FlightId, String> {
        number(&self.next("a flight")?)
    }

    /// Takes `name` away if it is there.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|word| word == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes `name` and the duration behind it away if they are there.
    pub(super) fn option(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_duration(&text).map(Some).map_err(str::to_owned)
    }

    /// Takes `name` and the flights behind it, as in `1,2`, away if they are there.
    pub(super) fn flights(&mut self, name: &str) -> Result<Vec<FlightId>, String> {
        let Some(text) = self.text(name)? else { return Ok(Vec::new()) };
        text.split(',').map(number).collect()
    }

    /// A value, with the tags named here.
    pub(super) fn tagged_value(&mut self) -> Result<Payload, String> {
        let value = Payload::from(self.next("a value")?);
        let tags = self.tags()?;
        Ok(if tags.is_empty() { value } else { value.tagged(tags) })
    }

    /// Takes `tags` and the names behind it, as in `a,b`, away if they are there.
    pub(super) fn tags(&mut self) -> Result<Vec<Tag>, String> {
        Ok(self.text("tags")?.map_or_else(Vec::new, |names| names.split(',').map(Tag::named).collect()))
    }

    /// Which write, as in `version 7.3`: the third one of writer 7.
    pub(super) fn version(&mut self) -> Result<Option<Version>, String> {
        let Some(text) = self.text("version")? else { return Ok(None) };
        let parts = text.split_once('.').and_then(|(writer, number)| writer.parse().ok().zip(number.parse().ok()));
        let (writer, number) = parts.ok_or("expected a version such as 7.3")?;
        Ok(Some(Version { writer, number }))
    }

    /// Takes `name` and the number behind it away if they are there.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, String> {
        let number = |text: String| text.parse().map_err(|_| format!("expected a number after {name}"));
        self.text(name)?.map(number).transpose()
    }

    /// The loader whose name stands behind `of`, if there is one.
    pub(super) fn loader(&mut self) -> Result<LoaderId, String> {
        Ok(self.text("of")?.map_or(LoaderId::UNNAMED, |name| LoaderId::named(&name)))
    }

    /// The windows named here, the others as in `policy`; `None` if none is named.
    pub(super) fn windows(&mut self, policy: Windows) -> Result<Option<Windows>, String> {
        let never = self.flag("never-expires");
        let (ttl, swr) = (self.option("ttl")?, self.option("swr")?);
        let (sie, keep) = (self.option("sie")?, self.option("keep")?);
        let windows = Windows {
            ttl: ttl.or(policy.ttl).filter(|_| !never),
            stale_while_revalidate: swr.unwrap_or(policy.stale_while_revalidate),
            stale_if_error: sie.unwrap_or(policy.stale_if_error),
            keep: keep.unwrap_or(policy.keep),
        };
        Ok((never || [ttl, swr, sie, keep].iter().any(Option::is_some)).then_some(windows))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = String> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }

    /// Whether nothing is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("too many words: {}", self.0.join(" "))) }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.0.iter().position(|word| word == name) else { return Ok(None) };
        self.0.remove(at);
        if at < self.0.len() { Ok(Some(self.0.remove(at))) } else { Err(format!("expected something after {name}")) }
    }
}

fn number(text: &str) -> Result<FlightId, String> {
    text.parse().map(FlightId).map_err(|_| format!("expected the number of a flight, not {text}"))
}
