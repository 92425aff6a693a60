//! Strings.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{bounded, kind, text_of};

/// A value as it stands in a string: `True`, `42`, and JSON for the rest.
pub(in super::super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `20261125T193624Z`, as `utcNow()` writes it.
pub(in super::super) fn utc(now: jiff::Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `concat(…)`: strings and numbers, or arrays.
pub(super) fn concat(arguments: &[Value]) -> Result<Value, String> {
    if arguments.iter().all(Value::is_array) {
        return Ok(arguments
            .iter()
            .flat_map(|array| array.as_array().into_iter().flatten().cloned())
            .collect());
    }
    let mut all = String::new();
    for (index, value) in arguments.iter().enumerate() {
        match value {
            Value::Array(_) | Value::Object(_) | Value::Null => {
                let kind = kind(value);
                return Err(format!("argument {} is {kind}, which cannot be joined to a string", index + 1));
            }
            simple => all += &shown(simple),
        }
    }
    bounded(all)
}

/// `format('{0}-{1}', …)`; `{{` and `}}` stand for braces.
pub(super) fn format(arguments: &[Value]) -> Result<Value, String> {
    let pattern = text_of(arguments, 0)?;
    let mut all = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        all += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            all += brace;
            rest = behind;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let end = end.ok_or_else(|| format!("{pattern:?} has a brace without its other one"))?;
        let index = rest[..end].trim().parse::<usize>();
        let index = index.map_err(|_| format!("{{{}}} is not the number of an argument", &rest[..end]))?;
        let value = arguments.get(1..).and_then(|values| values.get(index));
        all += &shown(value.ok_or_else(|| format!("there is no argument for {{{index}}}"))?);
        rest = &rest[end + 1..];
    }
    bounded(all + rest)
}

/// `string(x)`.
pub(super) fn string(arguments: &[Value]) -> Result<Value, String> {
    bounded(shown(&arguments[0]))
}

/// `toLower('A')`.
pub(super) fn to_lower(arguments: &[Value]) -> Result<Value, String> {
    bounded(text_of(arguments, 0)?.to_lowercase())
}

/// `toUpper('a')`.
pub(super) fn to_upper(arguments: &[Value]) -> Result<Value, String> {
    bounded(text_of(arguments, 0)?.to_uppercase())
}

/// `trim(' a ')`.
pub(super) fn trim(arguments: &[Value]) -> Result<Value, String> {
    Ok(json!(text_of(arguments, 0)?.trim()))
}

/// `startsWith('abc', 'A')`, without regard to case.
pub(super) fn starts_with(arguments: &[Value]) -> Result<Value, String> {
    let [text, start] = [text_of(arguments, 0)?.to_lowercase(), text_of(arguments, 1)?.to_lowercase()];
    Ok(json!(text.starts_with(&start)))
}

/// `endsWith('abc', 'C')`, without regard to case.
pub(super) fn ends_with(arguments: &[Value]) -> Result<Value, String> {
    let [text, end] = [text_of(arguments, 0)?.to_lowercase(), text_of(arguments, 1)?.to_lowercase()];
    Ok(json!(text.ends_with(&end)))
}

/// `replace('abc', 'b', 'x')`.
pub(super) fn replace(arguments: &[Value]) -> Result<Value, String> {
    let [text, old, new] = [0, 1, 2].map(|index| text_of(arguments, index));
    let (text, old, new) = (text?, old?, new?);
    if old.is_empty() {
        return Err("what is replaced must not be empty".to_owned());
    }
    // Known before it is made: each place may grow to the length of `new`.
    let grown = text.matches(old).count().saturating_mul(new.len()).saturating_add(text.len());
    if grown > 2 * super::MAX_TEXT {
        return Err(format!("its result has more than {} bytes", super::MAX_TEXT));
    }
    bounded(text.replace(old, new))
}

/// `split('a,b', ',')`; the delimiter may be an array of delimiters.
pub(super) fn split(arguments: &[Value]) -> Result<Value, String> {
    let text = text_of(arguments, 0)?;
    let delimiters: Vec<&str> = match &arguments[1] {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => vec![text_of(arguments, 1)?],
    };
    let (mut parts, mut rest) = (Vec::new(), text);
    let next = |rest: &str| {
        let found = delimiters.iter().filter(|delimiter| !delimiter.is_empty());
        found.filter_map(|delimiter| rest.find(delimiter).map(|at| (at, delimiter.len()))).min()
    };
    while let Some((at, length)) = next(rest) {
        parts.push(json!(&rest[..at]));
        rest = &rest[at + length..];
    }
    parts.push(json!(rest));
    Ok(Value::Array(parts))
}

/// `join(array, ',')`.
pub(super) fn join(arguments: &[Value]) -> Result<Value, String> {
    let Value::Array(values) = &arguments[0] else {
        return Err(format!("argument 1 must be an array, not {}", kind(&arguments[0])));
    };
    bounded(values.iter().map(shown).collect::<Vec<_>>().join(text_of(arguments, 1)?))
}

/// `substring('abc', 1, 1)`.
pub(super) fn substring(arguments: &[Value]) -> Result<Value, String> {
    let text: Vec<char> = text_of(arguments, 0)?.chars().collect();
    let number = |index: usize, otherwise: usize| match arguments.get(index) {
        None => Ok(otherwise),
        Some(value) => value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| format!("argument {} must be a whole number from 0 on", index + 1)),
    };
    let start = number(1, 0)?;
    let length = number(2, text.len().saturating_sub(start))?;
    let part = start.checked_add(length).and_then(|end| text.get(start..end));
    let part = part.ok_or_else(|| format!("the string has only {} characters", text.len()))?;
    Ok(Value::String(part.iter().collect()))
}

/// `json('{"a": 1}')`.
pub(super) fn json(arguments: &[Value]) -> Result<Value, String> {
    serde_json::from_str(text_of(arguments, 0)?).map_err(|error| format!("the string is not JSON: {error}"))
}

/// `uniqueString(…)`: 13 letters and digits that are always the same for the same strings. They are not those
/// that Azure makes, whose way is not published.
pub(super) fn unique_string(arguments: &[Value]) -> Result<Value, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = Sha256::new();
    for index in 0..arguments.len() {
        let text = text_of(arguments, index)?;
        // The length tells ('ab', 'c') from ('a', 'bc').
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let name =
        hash.finalize().iter().take(13).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(Value::String(name))
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_TEXT, call};
    use super::*;

    #[test]
    fn strings_are_made_cut_and_changed() {
        for (name, arguments, expected) in [
            ("concat", json!(["a", 1, true]), Some(json!("a1True"))),
            ("concat", json!([[1], [2, 3]]), Some(json!([1, 2, 3]))),
            ("concat", json!(["a", []]), None),
            ("concat", json!(["a".repeat(MAX_TEXT), "b"]), None),
            ("format", json!(["{0}/{1}-{0}", "a", 7]), Some(json!("a/7-a"))),
            ("format", json!(["{{{0}}}", "a"]), Some(json!("{a}"))),
            ("format", json!(["{1}", "a"]), None),
            ("format", json!(["{0:N2}", 1]), None),
            ("format", json!(["{0", 1]), None),
            ("format", json!(["}", 1]), None),
            ("string", json!([{"a": 1}]), Some(json!("{\"a\":1}"))),
            ("string", json!([false]), Some(json!("False"))),
            ("toLower", json!(["ABC"]), Some(json!("abc"))),
            ("toUpper", json!(["abc"]), Some(json!("ABC"))),
            ("toUpper", json!([1]), None),
            ("trim", json!([" a "]), Some(json!("a"))),
            ("startsWith", json!(["abc", "A"]), Some(json!(true))),
            ("endsWith", json!(["abc", "b"]), Some(json!(false))),
            ("replace", json!(["abcb", "b", "xy"]), Some(json!("axycxy"))),
            ("replace", json!(["abc", "", "x"]), None),
            ("replace", json!(["a".repeat(1000), "a", "b".repeat(1000)]), None),
            ("split", json!(["a,b;c", [",", ";"]]), Some(json!(["a", "b", "c"]))),
            ("split", json!(["a/b", "/"]), Some(json!(["a", "b"]))),
            ("split", json!(["ab", ""]), Some(json!(["ab"]))),
            ("join", json!([["a", 1], "-"]), Some(json!("a-1"))),
            ("substring", json!(["abcd", 1, 2]), Some(json!("bc"))),
            ("substring", json!(["abcd", 4]), Some(json!(""))),
            ("substring", json!(["abcd", 1, 9]), None),
            ("substring", json!(["abcd", -1, 1]), None),
            ("json", json!(["[1, null]"]), Some(json!([1, null]))),
            ("json", json!(["{"]), None),
            ("null", json!([]), Some(json!(null))),
        ] {
            let result = call(name, arguments.as_array().unwrap()).unwrap();
            assert_eq!(result.clone().ok(), expected, "{name} {arguments}: {result:?}");
        }
    }

    #[test]
    fn a_unique_string_is_the_same_for_the_same_strings_only() {
        let unique = |texts: Value| call("uniqueString", texts.as_array().unwrap()).unwrap().unwrap();
        assert_eq!(unique(json!(["a", "b"])), unique(json!(["a", "b"])));
        assert_ne!(unique(json!(["ab", "c"])), unique(json!(["a", "bc"])));
        let name = unique(json!(["x"]));
        let name = name.as_str().unwrap();
        assert!(
            name.len() == 13 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{name}"
        );
    }

    #[test]
    fn a_time_is_written_without_separators() {
        assert_eq!(utc("2026-11-25T19:36:24.5Z".parse().unwrap()), "20261125T193624Z");
    }
}
