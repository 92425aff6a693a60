//! Globs of repositories and tags, matched in linear time and constant memory per step: a pattern of somebody else
//! cannot make the control plane slow.

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 512;

/// A compiled glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Exactly this byte.
    Byte(u8),
    /// One byte, whatever it is (`?` of a tag).
    One,
    /// Any run of bytes except `/`.
    Component,
    /// Any run of bytes.
    Run,
}

impl Glob {
    /// A glob of repositories: `*` stands for any run of characters except `/`, `**` for any at all.
    pub(crate) fn repositories(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                b'*' if after.first() == Some(&b'*') => {
                    pieces.push(Piece::Run);
                    rest = &after[1..];
                }
                b'*' => pieces.push(Piece::Component),
                b'/' | b'.' | b'_' | b'-' | b'a'..=b'z' | b'0'..=b'9' => pieces.push(Piece::Byte(*first)),
                _ => {
                    return Err(unfit(
                        text,
                        "repositories have lower-case letters, digits, '/', '.', '_' and '-'; patterns also '*' and '**'",
                    ));
                }
            }
        }
        Self::checked(text, pieces)
    }

    /// A glob of tags: `*` stands for any run of characters, `?` for one.
    pub(crate) fn tags(text: &str) -> Result<Self, String> {
        let piece = |byte: &u8| match byte {
            b'*' => Some(Piece::Run),
            b'?' => Some(Piece::One),
            b'.' | b'_' | b'-' => Some(Piece::Byte(*byte)),
            byte if byte.is_ascii_alphanumeric() => Some(Piece::Byte(*byte)),
            _ => None,
        };
        let pieces: Option<Vec<Piece>> = text.as_bytes().iter().map(piece).collect();
        let pieces = pieces.ok_or_else(|| {
            unfit(text, "tags have letters, digits, '.', '_' and '-'; patterns also '*' and '?'")
        })?;
        Self::checked(text, pieces)
    }

    fn checked(text: &str, pieces: Vec<Piece>) -> Result<Self, String> {
        match text.len() {
            0 => Err("an empty pattern selects nothing: write * for everything".to_owned()),
            length if length > MAX_PATTERN => Err(format!("a pattern has at most {MAX_PATTERN} characters")),
            _ => Ok(Self(pieces)),
        }
    }

    /// The name that the glob stands for, where it has no wildcard.
    pub(crate) fn literal(&self) -> Option<String> {
        let byte = |piece: &Piece| match piece {
            Piece::Byte(byte) => Some(char::from(*byte)),
            _ => None,
        };
        self.0.iter().map(byte).collect()
    }

    /// Whether the whole of `text` fits. The set of places in the pattern where a match can stand is carried along
    /// `text`, so the time is at most the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let end = self.0.len();
        let mut places = vec![false; end + 1];
        places[0] = true;
        self.skip_empty_runs(&mut places);
        for byte in text.bytes() {
            let mut next = vec![false; end + 1];
            for (place, piece) in self.0.iter().enumerate().filter(|(place, _)| places[*place]) {
                match piece {
                    Piece::Byte(expected) if *expected == byte => next[place + 1] = true,
                    Piece::One => next[place + 1] = true,
                    Piece::Component if byte != b'/' => next[place] = true,
                    Piece::Run => next[place] = true,
                    Piece::Byte(_) | Piece::Component => {}
                }
            }
            self.skip_empty_runs(&mut next);
            places = next;
        }
        places[end]
    }

    /// A run may be empty: where a match stands before one, it also stands behind it.
    fn skip_empty_runs(&self, places: &mut [bool]) {
        for (place, piece) in self.0.iter().enumerate() {
            if places[place] && matches!(piece, Piece::Component | Piece::Run) {
                places[place + 1] = true;
            }
        }
    }
}

fn unfit(text: &str, rule: &str) -> String {
    format!("{:?} cannot match anything: {rule}", text.chars().take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_component_and_two_do_not() {
        for (pattern, name, expected) in [
            ("team/app", "team/app", true),
            ("team/app", "team/app2", false),
            ("team/*", "team/app", true),
            ("team/*", "team/", true),
            ("team/*", "team/a/b", false),
            ("team/*", "teams/a", false),
            ("*/app", "team/app", true),
            ("*/app", "app", false),
            ("**", "a/b/c", true),
            ("**/app", "a/b/app", true),
            ("team/**", "team/a/b", true),
            ("team/**/app", "team/a/b/app", true),
            ("team/**/app", "team/app", false),
            ("team/**app", "team/app", true),
            ("*", "app", true),
            ("*", "a/b", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(Glob::repositories(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn tags_are_matched_whole_with_stars_and_question_marks() {
        for (pattern, tag, expected) in [
            ("*", "v1", true),
            ("v?", "v1", true),
            ("v?", "v", false),
            ("v?", "v12", false),
            ("v*", "v", true),
            ("1.*", "1.4.2", true),
            ("1.*", "11.4", false),
            ("*-rc?", "v1-rc1", true),
            ("*-rc?", "v1-rc12", false),
            ("Release_*", "Release_1", true),
            ("latest", "latest", true),
            ("latest", "Latest", false),
        ] {
            assert_eq!(Glob::tags(pattern).unwrap().matches(tag), expected, "{pattern} {tag}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused() {
        let long = "a".repeat(513);
        for pattern in ["", "Team/app", "a b", "a?", "[a-z]", "ü", &long] {
            assert!(Glob::repositories(pattern).is_err(), "{pattern:.20}");
        }
        for pattern in ["", "a/b", "a b", "[0-9]", "ü", &long] {
            assert!(Glob::tags(pattern).is_err(), "{pattern:.20}");
        }
    }

    #[test]
    fn a_glob_without_wildcards_is_a_name() {
        assert_eq!(Glob::repositories("team/app").unwrap().literal().as_deref(), Some("team/app"));
        assert_eq!(Glob::repositories("team/*").unwrap().literal(), None);
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let glob = Glob::tags(&"*a".repeat(256)).unwrap();
        let began = std::time::Instant::now();
        assert!(!glob.matches(&"a".repeat(128)));
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
    }
}
