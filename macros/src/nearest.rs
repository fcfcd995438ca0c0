//! What somebody may have meant who wrote a name that there is not.

/// The one of `names` that `written` differs from in the fewest letters, if they are few.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).clamp(1, 3);
    let near = |name: &&str| distance(written, name) <= limit || contains(written, name);
    names.into_iter().filter(near).min_by_key(|name| distance(written, name))
}

/// `user` was written for `user_id`, or the other way round.
fn contains(written: &str, name: &str) -> bool {
    written.len().min(name.len()) >= 3 && (name.contains(written) || written.contains(name))
}

/// Letters to be added, taken away or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut next = vec![above + 1];
        for ((place, there), pair) in other.iter().enumerate().zip(row.windows(2)) {
            let changed = pair[0] + usize::from(*there != letter);
            next.push(changed.min(pair[1] + 1).min(next[place] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// "did you mean …?", or all that there are.
pub(crate) fn suggestion(written: &str, names: &[&str]) -> String {
    match nearest(written, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names.is_empty() => "there are none".to_owned(),
        None => format!("there are {}", listed(names)),
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_understood_and_other_words_are_not() {
        assert_eq!(nearest("usr_id", ["org", "user_id"]), Some("user_id"));
        assert_eq!(nearest("user", ["org", "user_id"]), Some("user_id"));
        assert_eq!(nearest("tll", ["key", "ttl", "tags"]), Some("ttl"));
        assert_eq!(nearest("colour", ["key", "ttl", "tags"]), None);
        assert_eq!(suggestion("colour", &["key", "ttl", "tags"]), "there are `key`, `ttl` and `tags`");
    }
}
