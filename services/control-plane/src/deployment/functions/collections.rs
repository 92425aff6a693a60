//! Arrays and objects, and what they have in common with strings.

use serde_json::{Map, Value, json};

use super::{kind, text_of};

/// The property of an object, whatever its case; the exact one where there are several.
pub(in super::super) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object
        .get(name)
        .or_else(|| object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// `array(x)`: `x` where it is one, else one of it.
pub(super) fn array(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::Array(_) => Ok(arguments[0].clone()),
        other => Ok(json!([other])),
    }
}

/// `createArray(…)`.
pub(super) fn create_array(arguments: &[Value]) -> Result<Value, String> {
    Ok(Value::Array(arguments.to_vec()))
}

/// `createObject('key', value, …)`.
pub(super) fn create_object(arguments: &[Value]) -> Result<Value, String> {
    if !arguments.len().is_multiple_of(2) {
        return Err("each key needs a value".to_owned());
    }
    let mut object = Map::new();
    for at in (0..arguments.len()).step_by(2) {
        object.insert(text_of(arguments, at)?.to_owned(), arguments[at + 1].clone());
    }
    Ok(Value::Object(object))
}

/// `empty(x)`: null, or nothing in it.
pub(super) fn empty(arguments: &[Value]) -> Result<Value, String> {
    Ok(json!(match &arguments[0] {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        other => return Err(unfit(other)),
    }))
}

/// `length(x)`: characters, elements or members.
pub(super) fn length(arguments: &[Value]) -> Result<Value, String> {
    Ok(json!(match &arguments[0] {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => values.len(),
        Value::Object(members) => members.len(),
        other => return Err(unfit(other)),
    }))
}

/// `first(x)`: of nothing it is nothing.
pub(super) fn first(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::String(text) => Ok(json!(text.chars().next().map(String::from).unwrap_or_default())),
        Value::Array(values) => Ok(values.first().cloned().unwrap_or(Value::Null)),
        other => Err(unfit(other)),
    }
}

/// `last(x)`.
pub(super) fn last(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::String(text) => Ok(json!(text.chars().last().map(String::from).unwrap_or_default())),
        Value::Array(values) => Ok(values.last().cloned().unwrap_or(Value::Null)),
        other => Err(unfit(other)),
    }
}

/// `contains(in, what)`: a part of a string, an element, or a key, which has no case.
pub(super) fn contains(arguments: &[Value]) -> Result<Value, String> {
    match &arguments[0] {
        Value::String(text) => Ok(json!(text.contains(text_of(arguments, 1)?))),
        Value::Array(values) => Ok(json!(values.contains(&arguments[1]))),
        Value::Object(members) => Ok(json!(member(members, text_of(arguments, 1)?).is_some())),
        other => Err(unfit(other)),
    }
}

/// `union(a, b, …)`: arrays without what repeats, objects in which the later one decides, in depth.
pub(super) fn union(arguments: &[Value]) -> Result<Value, String> {
    let mut all = arguments[0].clone();
    for (index, next) in arguments.iter().enumerate() {
        match (&mut all, next) {
            (Value::Array(all), Value::Array(next)) if index == 0 => {
                all.clear();
                add_new(all, next);
            }
            (Value::Array(all), Value::Array(next)) => add_new(all, next),
            (Value::Object(all), Value::Object(next)) => merge(all, next),
            _ => return Err("its arguments must all be arrays, or all objects".to_owned()),
        }
    }
    Ok(all)
}

fn add_new(all: &mut Vec<Value>, next: &[Value]) {
    for value in next {
        if !all.contains(value) {
            all.push(value.clone());
        }
    }
}

fn merge(all: &mut Map<String, Value>, next: &Map<String, Value>) {
    for (key, value) in next {
        match (all.get_mut(key), value) {
            (Some(Value::Object(all)), Value::Object(next)) => merge(all, next),
            _ => drop(all.insert(key.clone(), value.clone())),
        }
    }
}

fn unfit(value: &Value) -> String {
    format!("{} has no elements", kind(value))
}

#[cfg(test)]
mod tests {
    use super::super::call;
    use super::*;

    #[test]
    fn arrays_and_objects_are_made_joined_and_asked() {
        for (name, arguments, expected) in [
            ("array", json!(["a"]), Some(json!(["a"]))),
            ("array", json!([["a"]]), Some(json!(["a"]))),
            ("createArray", json!([1, "b", null]), Some(json!([1, "b", null]))),
            ("createObject", json!(["a", 1, "b", []]), Some(json!({"a": 1, "b": []}))),
            ("createObject", json!(["a"]), None),
            ("createObject", json!([1, 2]), None),
            ("empty", json!([""]), Some(json!(true))),
            ("empty", json!([null]), Some(json!(true))),
            ("empty", json!([{}]), Some(json!(true))),
            ("empty", json!([[0]]), Some(json!(false))),
            ("empty", json!([0]), None),
            ("length", json!(["äö"]), Some(json!(2))),
            ("length", json!([[1, 2, 3]]), Some(json!(3))),
            ("length", json!([1]), None),
            ("first", json!(["abc"]), Some(json!("a"))),
            ("first", json!([[]]), Some(json!(null))),
            ("last", json!([[1, 2]]), Some(json!(2))),
            ("last", json!([""]), Some(json!(""))),
            ("contains", json!(["abc", "b"]), Some(json!(true))),
            ("contains", json!([["a"], "A"]), Some(json!(false))),
            ("contains", json!([{"Key": 1}, "kEY"]), Some(json!(true))),
            ("union", json!([[1, 1], [2, 1]]), Some(json!([1, 2]))),
            (
                "union",
                json!([{"a": {"x": 1}, "b": 1}, {"a": {"y": 2}, "b": 2}]),
                Some(json!({"a": {"x": 1, "y": 2}, "b": 2})),
            ),
            ("union", json!([[], {}]), None),
        ] {
            let result = call(name, arguments.as_array().unwrap()).unwrap();
            assert_eq!(result.clone().ok(), expected, "{name} {arguments}: {result:?}");
        }
    }
}
