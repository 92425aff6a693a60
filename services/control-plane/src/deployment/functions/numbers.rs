//! Whole numbers.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{kind, text_of};

fn number(arguments: &[Value], index: usize) -> Result<i64, String> {
    let value = &arguments[index];
    value
        .as_i64()
        .ok_or_else(|| format!("argument {} must be a whole number, not {}", index + 1, kind(value)))
}

/// `int('4')`.
pub(super) fn int(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::String(text) => {
            text.trim().parse::<i64>().map(Into::into).map_err(|_| format!("{text:?} is not a whole number"))
        }
        _ => number(arguments, 0).map(Into::into),
    }
}

/// `add(1, 2)`.
pub(super) fn add(arguments: &[Value]) -> Result<Value, String> {
    let sum = number(arguments, 0)?.checked_add(number(arguments, 1)?);
    sum.map(Into::into).ok_or_else(|| "the sum does not fit a number".to_owned())
}

/// `sub(3, 2)`.
pub(super) fn sub(arguments: &[Value]) -> Result<Value, String> {
    let difference = number(arguments, 0)?.checked_sub(number(arguments, 1)?);
    difference.map(Into::into).ok_or_else(|| "the difference does not fit a number".to_owned())
}

/// Two numbers, or two strings, compared.
fn compare(arguments: &[Value]) -> Result<Ordering, String> {
    if arguments[0].is_string() {
        return Ok(text_of(arguments, 0)?.cmp(text_of(arguments, 1)?));
    }
    Ok(number(arguments, 0)?.cmp(&number(arguments, 1)?))
}

/// `less(1, 2)`.
pub(super) fn less(arguments: &[Value]) -> Result<Value, String> {
    compare(arguments).map(|order| json!(order.is_lt()))
}

/// `lessOrEquals(1, 2)`.
pub(super) fn less_or_equals(arguments: &[Value]) -> Result<Value, String> {
    compare(arguments).map(|order| json!(order.is_le()))
}

/// `greater(2, 1)`.
pub(super) fn greater(arguments: &[Value]) -> Result<Value, String> {
    compare(arguments).map(|order| json!(order.is_gt()))
}

/// `greaterOrEquals(2, 1)`.
pub(super) fn greater_or_equals(arguments: &[Value]) -> Result<Value, String> {
    compare(arguments).map(|order| json!(order.is_ge()))
}

#[cfg(test)]
mod tests {
    use super::super::call;
    use super::*;

    #[test]
    fn numbers_are_whole_and_do_not_overflow() {
        for (name, arguments, expected) in [
            ("int", json!(["42"]), Some(json!(42))),
            ("int", json!([7]), Some(json!(7))),
            ("int", json!(["4.5"]), None),
            ("int", json!([true]), None),
            ("add", json!([1, 2]), Some(json!(3))),
            ("add", json!([i64::MAX, 1]), None),
            ("sub", json!([1, 2]), Some(json!(-1))),
            ("sub", json!([i64::MIN, 1]), None),
            ("less", json!([1, 2]), Some(json!(true))),
            ("less", json!(["b", "a"]), Some(json!(false))),
            ("lessOrEquals", json!([2, 2]), Some(json!(true))),
            ("greater", json!([2, 1]), Some(json!(true))),
            ("greaterOrEquals", json!([1, 2]), Some(json!(false))),
            ("greater", json!([1, "a"]), None),
        ] {
            let result = call(name, arguments.as_array().unwrap()).unwrap();
            assert_eq!(result.clone().ok(), expected, "{name} {arguments}: {result:?}");
        }
    }
}
