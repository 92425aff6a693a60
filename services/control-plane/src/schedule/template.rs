//! The names of the bundles that a schedule makes.

use jiff::Timestamp;

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// `{pipeline}`: the pipeline's name.
    pub(crate) pipeline: &'a str,
    /// `{date}` and `{time}`: when, in milliseconds since the Unix epoch, in UTC.
    pub(crate) now_ms: i64,
    /// `{generation}`: a number that is never given twice.
    pub(crate) generation: u64,
}

/// The template where a schedule has none.
pub(crate) const DEFAULT: &str = "{pipeline}-{date}-{time}-{generation}";

/// The name that `template` gives. Where it does not use `{generation}`, the number is appended: two bundles must
/// not have one name.
pub(crate) fn fill(template: &str, filling: &Filling<'_>) -> Result<String, String> {
    let at = Timestamp::from_millisecond(filling.now_ms).unwrap_or_default();
    let generation = filling.generation.to_string();
    let mut name = String::with_capacity(template.len() + 32);
    let mut has_generation = false;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let (word, after) = after.split_once('}').ok_or("a '{' without its '}'")?;
        match word {
            "pipeline" => name.push_str(filling.pipeline),
            "date" => name.push_str(&at.strftime("%Y%m%d").to_string()),
            "time" => name.push_str(&at.strftime("%H%M%S").to_string()),
            "generation" => {
                has_generation = true;
                name.push_str(&generation);
            }
            _ => {
                let word: String = word.chars().take(40).collect();
                return Err(format!(
                    "{{{word}}} is not known: use {{pipeline}}, {{date}}, {{time}}, {{generation}}"
                ));
            }
        }
        rest = after;
    }
    name.push_str(rest);
    if !has_generation {
        name = format!("{name}-{generation}");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_two_bundles_never_share_a_name() {
        let filling = Filling { pipeline: "nightly", now_ms: 1_767_225_600_000, generation: 77 };
        for (template, expected) in [
            (DEFAULT, "nightly-20260101-000000-77"),
            ("{date}/{pipeline}-{generation}.tar", "20260101/nightly-77.tar"),
            ("fixed", "fixed-77"),
            ("{pipeline}/{time}", "nightly/000000-77"),
            ("", "-77"),
        ] {
            assert_eq!(fill(template, &filling).as_deref(), Ok(expected), "{template}");
        }
        for template in ["{", "{x}", "{pipeline", "{{pipeline}}"] {
            assert!(fill(template, &filling).is_err(), "{template}");
        }
    }
}
