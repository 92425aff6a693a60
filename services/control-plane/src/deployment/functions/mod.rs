//! The functions of templates that depend on nothing but their arguments.

mod collections;
mod logic;
mod numbers;
mod text;

use serde_json::Value;

pub(super) use collections::member;
pub(super) use text::{shown, utc};

/// The longest string that a function makes, in bytes: Azure Resource Manager's own bound.
pub(super) const MAX_TEXT: usize = 131_072;

/// What a function does: its arguments, of which there are as many as it takes, and its result.
type Body = fn(&[Value]) -> Result<Value, String>;

/// A function.
struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    body: Body,
}

const MANY: usize = 1024;

const fn function(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function { name, least, most, body }
}

/// The functions, by their names. Names are compared without regard to case.
const FUNCTIONS: &[Function] = &[
    function("add", 2, 2, numbers::add),
    function("array", 1, 1, collections::array),
    function("bool", 1, 1, logic::bool),
    function("concat", 1, MANY, text::concat),
    function("contains", 2, 2, collections::contains),
    function("createArray", 0, MANY, collections::create_array),
    function("createObject", 0, MANY, collections::create_object),
    function("empty", 1, 1, collections::empty),
    function("endsWith", 2, 2, text::ends_with),
    function("equals", 2, 2, logic::equals),
    function("false", 0, 0, |_| Ok(Value::Bool(false))),
    function("first", 1, 1, collections::first),
    function("format", 1, MANY, text::format),
    function("greater", 2, 2, numbers::greater),
    function("greaterOrEquals", 2, 2, numbers::greater_or_equals),
    function("int", 1, 1, numbers::int),
    function("join", 2, 2, text::join),
    function("json", 1, 1, text::json),
    function("last", 1, 1, collections::last),
    function("length", 1, 1, collections::length),
    function("less", 2, 2, numbers::less),
    function("lessOrEquals", 2, 2, numbers::less_or_equals),
    function("not", 1, 1, logic::not),
    function("null", 0, 0, |_| Ok(Value::Null)),
    function("replace", 3, 3, text::replace),
    function("split", 2, 2, text::split),
    function("startsWith", 2, 2, text::starts_with),
    function("string", 1, 1, text::string),
    function("sub", 2, 2, numbers::sub),
    function("substring", 2, 3, text::substring),
    function("toLower", 1, 1, text::to_lower),
    function("toUpper", 1, 1, text::to_upper),
    function("trim", 1, 1, text::trim),
    function("true", 0, 0, |_| Ok(Value::Bool(true))),
    function("union", 1, MANY, collections::union),
    function("uniqueString", 1, MANY, text::unique_string),
];

fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name.eq_ignore_ascii_case(name))
}

/// Whether there is a function of this name here.
pub(super) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// The result of a function; `None` where there is none of this name.
///
/// # Errors
/// What is wrong with the arguments.
pub(super) fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let Function { name, least, most, body } = find(name)?;
    let count = arguments.len();
    if (*least..=*most).contains(&count) {
        return Some(body(arguments).map_err(|why| format!("{name}: {why}")));
    }
    let takes = match (least, most) {
        (least, most) if least == most => least.to_string(),
        (least, &MANY) => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    };
    Some(Err(format!("{name}: it takes {takes} arguments, not {count}")))
}

/// What kind of value it is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The argument with this index as text.
fn text_of(arguments: &[Value], index: usize) -> Result<&str, String> {
    arguments[index]
        .as_str()
        .ok_or_else(|| format!("argument {} must be a string, not {}", index + 1, kind(&arguments[index])))
}

/// A string, where it is not too long.
fn bounded(text: String) -> Result<Value, String> {
    match text.len() {
        0..=MAX_TEXT => Ok(Value::String(text)),
        _ => Err(format!("its result has more than {MAX_TEXT} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_no_case_and_the_number_of_arguments_is_checked() {
        assert_eq!(call("TOLOWER", &[json!("Ab")]), Some(Ok(json!("ab"))));
        assert_eq!(call("toLower", &[]), Some(Err("toLower: it takes 1 arguments, not 0".to_owned())));
        let substring = call("substring", &[json!("x")]).unwrap().unwrap_err();
        assert!(substring.contains("2 to 3"), "{substring}");
        let concat = call("concat", &[]).unwrap().unwrap_err();
        assert!(concat.contains("at least 1"), "{concat}");
        assert_eq!(call("listKeys", &[]), None);
        assert!(is_known("Concat") && !is_known("listKeys"));
    }
}
