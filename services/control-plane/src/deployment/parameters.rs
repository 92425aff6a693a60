//! The parameters of a template: what it declares, what is given, and what of that is wrong.

use serde_json::{Map, Value, json};

use super::evaluate::Evaluation;
use super::fault::{Evaluated, Fault};
use super::functions::{kind, member};
use super::scope::{Frame, Slot};

/// Fills in `frame.parameters` from what the template declares and what `given` gives (`{name: {"value": …}}`).
///
/// # Errors
/// The first parameter that is missing, unknown, of another type, or out of its bounds.
pub(super) fn fill(
    frame: &mut Frame,
    declared: &Map<String, Value>,
    given: &Map<String, Value>,
) -> Evaluated<()> {
    if let Some(name) = given.keys().find(|name| member(declared, name).is_none()) {
        let names: Vec<&str> = declared.keys().map(String::as_str).collect();
        let has =
            if names.is_empty() { "it has none".to_owned() } else { format!("it has: {}", names.join(", ")) };
        return Err(
            Fault::invalid(format!("the template has no parameter {name:?}; {has}")).under("parameters")
        );
    }
    for (name, declaration) in declared {
        let slot = slot(name, declaration, member(given, name)).map_err(|fault| inside(fault, name))?;
        frame.parameters.insert(name.to_ascii_lowercase(), slot);
    }
    for (name, declaration) in declared {
        // Defaults are evaluated where all parameters are known, so that one may build on another.
        let key = name.to_ascii_lowercase();
        let value = match &frame.parameters[&key] {
            Slot::Value(value) => value.clone(),
            Slot::Raw(raw) => Evaluation::early(frame).value(raw).map_err(|fault| inside(fault, name))?,
        };
        check(declaration, &value).map_err(|message| inside(Fault::invalid(message), name))?;
        frame.parameters.insert(key, Slot::Value(value));
    }
    Ok(())
}

fn inside(fault: Fault, name: &str) -> Fault {
    fault.under(name).under("parameters")
}

fn slot(name: &str, declaration: &Value, given: Option<&Value>) -> Evaluated<Slot> {
    if let Some(given) = given {
        if given.get("reference").is_some() {
            return Err(Fault::invalid(
                "secrets of a vault are not read for parameters: pipelines name them by keyVaultUri",
            ));
        }
        match given.get("value") {
            // `null` stands for what is not given.
            Some(Value::Null) => {}
            Some(value) => return Ok(Slot::Value(value.clone())),
            None => return Err(Fault::invalid(format!("{name} must be given as {{\"value\": …}}"))),
        }
    }
    match declaration.get("defaultValue") {
        Some(value) => Ok(Slot::Raw(value.clone())),
        None if declaration.get("nullable") == Some(&Value::Bool(true)) => Ok(Slot::Value(Value::Null)),
        None => Err(Fault::invalid(format!("the value for the template parameter {name:?} is not provided"))),
    }
}

/// The type that a declaration names, in lower case.
fn type_of(declaration: &Value) -> String {
    declaration.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
}

/// Whether values of the declared type are not shown.
pub(super) fn is_secure(declaration: &Value) -> bool {
    type_of(declaration).starts_with("secure")
}

fn check(declaration: &Value, value: &Value) -> Result<(), String> {
    let wanted = type_of(declaration);
    let fits = match (wanted.as_str(), value) {
        (_, Value::Null) => declaration.get("nullable") == Some(&Value::Bool(true)),
        ("string" | "securestring", Value::String(_))
        | ("bool", Value::Bool(_))
        | ("array", Value::Array(_))
        | ("object" | "secureobject", Value::Object(_)) => true,
        ("int", Value::Number(number)) => number.is_i64(),
        _ => false,
    };
    if !fits {
        return Err(format!("its type is {wanted:?}, and the value is {}", kind(value)));
    }
    if let Some(allowed) = declaration.get("allowedValues").and_then(Value::as_array)
        && !allowed.contains(value)
        && !elements_are(value, allowed)
    {
        let shown = if is_secure(declaration) { "the value".to_owned() } else { value.to_string() };
        return Err(format!("{shown} is not one of the allowed values {}", json!(allowed)));
    }
    bounds(declaration, value)
}

/// Of an array, each element may be one of the allowed values.
fn elements_are(value: &Value, allowed: &[Value]) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(|value| allowed.contains(value)))
}

fn bounds(declaration: &Value, value: &Value) -> Result<(), String> {
    let bound = |name: &str| declaration.get(name).and_then(Value::as_i64);
    let (least, most, is, what) = match value {
        Value::Number(number) => {
            (bound("minValue"), bound("maxValue"), number.as_i64().unwrap_or(0), "value")
        }
        Value::String(text) => {
            (bound("minLength"), bound("maxLength"), count(text.chars().count()), "length")
        }
        Value::Array(values) => (bound("minLength"), bound("maxLength"), count(values.len()), "length"),
        _ => return Ok(()),
    };
    match (least, most) {
        (Some(least), _) if is < least => Err(format!("its {what} is {is}, and {least} is the least")),
        (_, Some(most)) if is > most => Err(format!("its {what} is {is}, and {most} is the most")),
        _ => Ok(()),
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The parameters as a deployment shows them: with their types, without what is secret.
pub(super) fn shown(frame: &Frame, declared: &Map<String, Value>) -> Map<String, Value> {
    let show = |(name, declaration): (&String, &Value)| {
        let mut shown = Map::new();
        shown.insert("type".to_owned(), declaration.get("type").cloned().unwrap_or_default());
        if let (false, Some(Slot::Value(value))) =
            (is_secure(declaration), frame.parameters.get(&name.to_ascii_lowercase()))
        {
            shown.insert("value".to_owned(), value.clone());
        }
        (name.clone(), Value::Object(shown))
    };
    declared.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::evaluate::tests::context;

    fn filled(declared: Value, given: Value) -> Result<Map<String, Value>, String> {
        let mut frame = Frame {
            context: context(),
            place: ("sub".to_owned(), "rg".to_owned()),
            level: 0,
            parameters: Default::default(),
            variables: Default::default(),
            names: Default::default(),
        };
        let declared = declared.as_object().unwrap();
        match fill(&mut frame, declared, given.as_object().unwrap()) {
            Ok(()) => Ok(shown(&frame, declared)),
            Err(fault) => Err(fault.detail().message),
        }
    }

    #[test]
    fn what_is_given_wins_and_defaults_build_on_each_other() {
        let declared = json!({
            "aLocation": {"type": "string", "defaultValue": "[resourceGroup().location]"},
            "label": {"type": "string", "defaultValue": "[concat(parameters('name'), '-', parameters('alocation'))]"},
            "name": {"type": "String"},
            "options": {"type": "array", "allowedValues": ["A", "B"], "defaultValue": ["A"]},
            "secret": {"type": "secureString"},
        });
        let shown = filled(
            declared,
            json!({"NAME": {"value": "[not an expression]"}, "secret": {"value": "CANARY"}, "options": {"value": null}}),
        );
        assert_eq!(
            Value::Object(shown.unwrap()),
            json!({
                "aLocation": {"type": "string", "value": "westeurope"},
                "label": {"type": "string", "value": "[not an expression]-westeurope"},
                "name": {"type": "String", "value": "[not an expression]"},
                "options": {"type": "array", "value": ["A"]},
                "secret": {"type": "secureString"},
            })
        );
    }

    #[test]
    fn what_is_wrong_with_a_parameter_is_said() {
        for (declaration, given, why) in [
            (json!({"type": "string"}), json!({}), "\"p\" is not provided"),
            (json!({"type": "string"}), json!({"q": {"value": 1}}), "has no parameter \"q\"; it has: p"),
            (
                json!({"type": "string"}),
                json!({"p": {"value": 1}}),
                "is \"string\", and the value is a number",
            ),
            (json!({"type": "int"}), json!({"p": {"value": 1.5}}), "the value is a number"),
            (json!({"type": "strnig"}), json!({"p": {"value": "x"}}), "its type is \"strnig\""),
            (json!({"type": "string"}), json!({"p": "x"}), "must be given as {\"value\": …}"),
            (json!({"type": "string"}), json!({"p": {"reference": {}}}), "keyVaultUri"),
            (
                json!({"type": "string", "minLength": 5}),
                json!({"p": {"value": "four"}}),
                "length is 4, and 5 is the least",
            ),
            (
                json!({"type": "string", "maxLength": 3}),
                json!({"p": {"value": "four"}}),
                "length is 4, and 3 is the most",
            ),
            (json!({"type": "int", "maxValue": 3}), json!({"p": {"value": 4}}), "value is 4"),
            (json!({"type": "array", "minLength": 1}), json!({"p": {"value": []}}), "length is 0"),
            (
                json!({"type": "string", "allowedValues": ["Enabled", "Disabled"]}),
                json!({"p": {"value": "on"}}),
                "\"on\" is not one of the allowed values [\"Enabled\",\"Disabled\"]",
            ),
            (
                json!({"type": "secureString", "allowedValues": ["a"]}),
                json!({"p": {"value": "CANARY"}}),
                "the value is not one of",
            ),
            (json!({"type": "string", "defaultValue": "[parameters('p')]"}), json!({}), "refers to itself"),
            (json!({"type": "string", "defaultValue": "[reference('/x/y').a]"}), json!({}), "not allowed"),
        ] {
            let message = filled(json!({"p": declaration}), given).unwrap_err();
            assert!(message.contains(why) && message.starts_with("The template is not valid"), "{message}");
            assert!(!message.contains("CANARY"), "{message}");
        }
    }
}
