//! What a compiler says, without what has nothing to do with the file: how it is where other files are quoted, and which
//! types have a trait.

/// Lines that say nothing about the file.
const ENDS: [&str; 3] = ["error: aborting due to", "For more information about", "Some errors have detailed"];

/// What is said of the file of that name.
pub(crate) fn normalised(told: &str, file: &str) -> String {
    let mut text = String::new();
    // Whether lines are of another file, or of a list of types.
    let (mut elsewhere, mut listing) = (false, false);
    for line in told.lines().filter(|line| !ENDS.iter().any(|end| line.starts_with(end))) {
        let line = match Line::read(line) {
            Line::Place(place) => {
                elsewhere = !place.starts_with(file);
                if elsewhere { "   --> (another file)".to_owned() } else { format!("   --> {place}") }
            }
            Line::Quoted(..) if elsewhere => continue,
            Line::Quoted(number, code) => format!("{number:>4} {code}"),
            Line::Remark(remark) => {
                listing = remark.contains("other types implement trait");
                format!("     {remark}")
            }
            Line::More(_) if listing => continue,
            Line::More(more) => format!("{:13}{more}", ""),
            Line::Message(message) => {
                (elsewhere, listing) = (false, false);
                message.to_owned()
            }
        };
        text += line.trim_end();
        text.push('\n');
    }
    format!("{}\n", text.trim_end())
}

/// A line, without the width of numbers of lines before it.
enum Line<'a> {
    /// `--> file.rs:1:1`
    Place(&'a str),
    /// `1 | code`, `  | ^^^^`, `1 + code` and `...`.
    Quoted(&'a str, &'a str),
    /// `= note: …`
    Remark(&'a str),
    /// A further line of a remark.
    More(&'a str),
    /// `error: …`, `note: …` or nothing.
    Message(&'a str),
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let plain = line.trim_start();
        if let Some(place) = plain.strip_prefix("--> ").or_else(|| plain.strip_prefix("::: ")) {
            return Self::Place(place);
        }
        let code = plain.trim_start_matches(|character: char| character.is_ascii_digit());
        let number = &plain[..plain.len() - code.len()];
        match code.trim_start() {
            code if code.starts_with(['|', '~']) || code == "..." => Self::Quoted(number, code),
            code if !number.is_empty() && code.starts_with(['+', '-']) => Self::Quoted(number, code),
            code if number.is_empty() && code.starts_with("= ") => Self::Remark(code),
            _ if line.starts_with("     ") => Self::More(plain),
            _ => Self::Message(line),
        }
    }
}
