//! True and false. `if`, `and` and `or` are with the evaluation, which leaves out what does not matter.

use serde_json::{Value, json};

use super::kind;

/// `equals(a, b)`: strings with their case, arrays and objects in depth.
pub(super) fn equals(arguments: &[Value]) -> Result<Value, String> {
    Ok(json!(arguments[0] == arguments[1]))
}

/// `not(true)`.
pub(super) fn not(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::Bool(value) => Ok(json!(!value)),
        other => Err(format!("its argument must be a bool, not {}", kind(other))),
    }
}

/// `bool('true')`, `bool(1)`.
pub(super) fn bool(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::Bool(value) => Ok(json!(value)),
        Value::Number(number) => Ok(json!(number.as_i64() != Some(0))),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(json!(true)),
            "false" | "0" => Ok(json!(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        other => Err(format!("its argument must be a string, a number or a bool, not {}", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::call;
    use super::*;

    #[test]
    fn truth_is_strict() {
        for (name, arguments, expected) in [
            ("equals", json!(["a", "a"]), Some(true)),
            ("equals", json!(["a", "A"]), Some(false)),
            ("equals", json!([1, "1"]), Some(false)),
            ("equals", json!([{"a": [1]}, {"a": [1]}]), Some(true)),
            ("equals", json!([null, null]), Some(true)),
            ("not", json!([true]), Some(false)),
            ("not", json!(["true"]), None),
            ("bool", json!(["True"]), Some(true)),
            ("bool", json!([0]), Some(false)),
            ("bool", json!(["yes"]), None),
            ("bool", json!([[]]), None),
            ("true", json!([]), Some(true)),
            ("false", json!([]), Some(false)),
        ] {
            let result = call(name, arguments.as_array().unwrap()).unwrap();
            assert_eq!(result.clone().ok(), expected.map(Value::Bool), "{name} {arguments}: {result:?}");
        }
    }
}
