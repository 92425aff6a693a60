//! A template, checked as a whole before anything is put.

use serde_json::{Map, Value};

use super::evaluate::{is_function, unknown};
use super::fault::{Evaluated, Fault};
use super::syntax::{Reading, read};

/// The most resources, those in nested deployments included: Azure Resource Manager's own bound.
const MAX_RESOURCES: usize = 800;

/// The most parameters, variables and outputs each.
const MAX_NAMES: usize = 256;

/// The sections of a template, as they are written.
#[derive(Debug, Default)]
pub(super) struct Template<'a> {
    pub(super) parameters: Map<String, Value>,
    pub(super) variables: Map<String, Value>,
    pub(super) resources: &'a [Value],
    pub(super) outputs: Map<String, Value>,
}

impl<'a> Template<'a> {
    /// Reads a template. Every expression in it can be parsed, and calls functions that exist.
    ///
    /// # Errors
    /// Where a section has another shape, is too large, or says what is not done here.
    pub(super) fn read(template: &'a Value) -> Evaluated<Self> {
        let Value::Object(sections) = template else {
            return Err(Fault::invalid("a template is a JSON object with resources in it"));
        };
        let resources = match sections.get("resources") {
            Some(Value::Array(resources)) => resources,
            Some(_) => {
                return Err(Fault::invalid(
                    "it must be an array: symbolic names (language version 2.0) are not read here",
                )
                .under("resources"));
            }
            None => return Err(Fault::invalid("it has no resources")),
        };
        if count(template) > MAX_RESOURCES {
            return Err(Fault::invalid(format!("there are more than {MAX_RESOURCES}")).under("resources"));
        }
        if sections.get("functions").is_some_and(|functions| !is_nothing(functions)) {
            return Err(Fault::invalid("functions of one's own are not evaluated here").under("functions"));
        }
        let section = |name: &str| section(sections, name).map_err(|fault| fault.under(name));
        let read = Self {
            parameters: section("parameters")?,
            variables: section("variables")?,
            resources,
            outputs: section("outputs")?,
        };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Evaluated<()> {
        for (name, declaration) in &self.parameters {
            let default = declaration.get("defaultValue").map_or(Ok(()), expressions);
            default.map_err(|fault| fault.under("defaultValue").under(name).under("parameters"))?;
        }
        for (section, members) in [("variables", &self.variables), ("outputs", &self.outputs)] {
            for (name, value) in members {
                expressions(value).map_err(|fault| fault.under(name).under(section))?;
            }
        }
        for (index, resource) in self.resources.iter().enumerate() {
            expressions(resource).map_err(|fault| fault.under(&format!("resources[{index}]")))?;
        }
        Ok(())
    }
}

fn section(sections: &Map<String, Value>, name: &str) -> Evaluated<Map<String, Value>> {
    match sections.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) if members.contains_key("copy") => {
            Err(Fault::invalid("copy loops are not evaluated here: write the elements out"))
        }
        Some(Value::Object(members)) if members.len() <= MAX_NAMES => Ok(members.clone()),
        Some(Value::Object(_)) => Err(Fault::invalid(format!("there are more than {MAX_NAMES}"))),
        Some(_) => Err(Fault::invalid("it must be an object")),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// How many resources there are, in all depths.
fn count(template: &Value) -> usize {
    let resources = template.get("resources").and_then(Value::as_array).into_iter().flatten();
    let inner =
        |resource: &Value| count(resource) + resource.pointer("/properties/template").map_or(0, count);
    resources.map(|resource| 1 + inner(resource)).sum()
}

/// Whether every expression in `value`, in all depths, can be parsed and calls functions that exist. JSON that was
/// parsed is not deeper than 128.
fn expressions(value: &Value) -> Evaluated<()> {
    match value {
        Value::String(text) => expression(text),
        Value::Array(values) => {
            let mut values = values.iter().enumerate();
            values.try_for_each(|(index, value)| {
                expressions(value).map_err(|fault| fault.under(&format!("[{index}]")))
            })
        }
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "comments"))
            .try_for_each(|(key, value)| {
                expression(key).and_then(|()| expressions(value)).map_err(|fault| fault.under(key))
            }),
        _ => Ok(()),
    }
}

fn expression(text: &str) -> Evaluated<()> {
    let Reading::Expression(expression) = read(text).map_err(Fault::invalid)? else { return Ok(()) };
    let mut missing = None;
    expression.calls(&mut |name, _| {
        if missing.is_none() && !is_function(name) {
            missing = Some(unknown(name));
        }
    });
    missing.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_a_template_is_refused_before_anything_is_done() {
        let many: Vec<Value> = (0..801).map(|_| json!({})).collect();
        let names: Map<String, Value> = (0..257).map(|n| (n.to_string(), json!(1))).collect();
        for (template, why) in [
            (json!([]), "is a JSON object"),
            (json!({}), "has no resources"),
            (json!({"resources": {}}), "at resources: it must be an array"),
            (json!({"resources": many}), "more than 800"),
            (json!({"resources": [], "variables": names}), "at variables: there are more than 256"),
            (json!({"resources": [], "outputs": []}), "at outputs: it must be an object"),
            (json!({"resources": [], "functions": [{}]}), "at functions"),
            (json!({"resources": [], "variables": {"copy": []}}), "copy loops"),
            (json!({"resources": [{"properties": {"a": ["[f("]}}], "variables": {}}), ""),
            (
                json!({"resources": [{"properties": {"a": ["[f(]"]}}]}),
                "at resources[0].properties.a[0]: expected a value",
            ),
            (
                json!({"resources": [], "outputs": {"o": {"value": "[listKeys('x')]"}}}),
                "at outputs.o.value: this control plane has no function \"listKeys\"",
            ),
            (json!({"resources": [{"[nope()]": 1}]}), "no function \"nope\""),
            (
                json!({"resources": [], "parameters": {"p": {"defaultValue": "[]"}}}),
                "at parameters.p.defaultValue",
            ),
            (json!({"resources": [{"comments": "[not read", "metadata": {"x": "[nope()]"}}]}), ""),
        ] {
            match (Template::read(&template), why) {
                (Ok(_), "") => {}
                (Err(fault), why) => {
                    let message = fault.detail().message;
                    assert!(!why.is_empty() && message.contains(why), "{message}");
                }
                (Ok(_), why) => panic!("{why}: {template} was read"),
            }
        }
    }
}
