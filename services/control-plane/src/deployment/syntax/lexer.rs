//! From text to tokens.

/// A token, and where it begins, in bytes from the bracket that opens the expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// The kinds of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The name of a function or property.
    Name(String),
    /// `'text'`, in which `''` stands for one quote.
    Text(String),
    /// A whole number.
    Number(i64),
    /// One of `( ) [ ] . ,`.
    Mark(char),
}

/// The tokens of `text`.
///
/// # Errors
/// Where a character cannot begin one, or a string does not end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            ' ' | '\t' | '\r' | '\n' => {
                at += 1;
                continue;
            }
            '(' | ')' | '[' | ']' | '.' | ',' => (Kind::Mark(first), 1),
            '\'' => string(rest).ok_or_else(|| format!("the text at character {} is not closed", at + 1))?,
            '-' | '0'..='9' => number(rest).map_err(|why| format!("{why}, at character {}", at + 1))?,
            c if c == '_' || c.is_ascii_alphabetic() => name(rest),
            c => return Err(format!("{c:?} at character {} belongs to no expression", at + 1)),
        };
        tokens.push(Token { at, kind });
        at += length;
    }
    Ok(tokens)
}

fn string(text: &str) -> Option<(Kind, usize)> {
    let mut value = String::new();
    let mut at = 1;
    loop {
        let end = text[at..].find('\'')? + at;
        value += &text[at..end];
        at = end + 1;
        if !text[at..].starts_with('\'') {
            return Some((Kind::Text(value), at));
        }
        value.push('\'');
        at += 1;
    }
}

fn number(text: &str) -> Result<(Kind, usize), String> {
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count() + 1;
    let number = text[..digits].parse();
    Ok((Kind::Number(number.map_err(|_| format!("{} does not fit a number", &text[..digits]))?), digits))
}

fn name(text: &str) -> (Kind, usize) {
    let length = text.bytes().take_while(|b| *b == b'_' || b.is_ascii_alphanumeric()).count();
    (Kind::Name(text[..length].to_owned()), length)
}
