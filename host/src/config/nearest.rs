//! What somebody may have meant who wrote a name that is none.

/// The known name that is the fewest slips of the pen away, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs the product of the lengths; no name of ours is longer.
    if name.len() > 64 {
        return None;
    }
    let slips_max = (name.chars().count() / 3).clamp(1, 3);
    let compared = known.into_iter().map(|candidate| (slips(name, candidate), candidate));
    compared.filter(|(slips, _)| *slips <= slips_max).min_by_key(|(slips, _)| *slips).map(|(_, candidate)| candidate)
}

/// `there is no such option`, and what may have been meant.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(meant) => format!("there is no such {what}; did you mean {meant}?"),
        None => format!("there is no such {what}"),
    }
}

/// How many letters have to be added, left out, replaced or swapped with their neighbour (optimal string alignment).
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_counted() {
        for (from, to, count) in
            [("ttl", "ttl", 0), ("tll", "ttl", 1), ("", "ab", 2), ("tlt", "ttl", 1), ("abc", "", 3)]
        {
            assert_eq!(slips(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let known = ["lease", "lease_ttl", "load_deadline"];
        assert_eq!(nearest("laod_deadline", known), Some("load_deadline"));
        assert_eq!(nearest("leese_ttl", known), Some("lease_ttl"));
        assert_eq!(nearest("frobnicate", known), None);
        assert_eq!(nearest(&"lease".repeat(100), known), None);
    }
}
