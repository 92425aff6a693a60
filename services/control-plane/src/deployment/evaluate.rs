//! The evaluation of a template's values. Pure: a reference to what is not known yet is a fault that says so.

use serde_json::{Map, Value};

use super::budget::Budget;
use super::fault::{Evaluated, Fault};
use super::functions::{self, kind, member};
use super::identifiers;
use super::scope::{Frame, Known, Slot, Slots};
use super::syntax::{Expression, Reading, read};

/// The functions that see more than their arguments.
const SPECIAL: [&str; 14] = [
    "and",
    "coalesce",
    "deployment",
    "environment",
    "if",
    "or",
    "parameters",
    "reference",
    "resourceGroup",
    "resourceId",
    "subscription",
    "subscriptionResourceId",
    "utcNow",
    "variables",
];

/// Whether there is a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    functions::is_known(name) || SPECIAL.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// One evaluation.
pub(super) struct Evaluation<'a> {
    frame: &'a Frame,
    /// What references find; `None` where they are not allowed.
    known: Option<&'a Known>,
    budget: Budget,
}

impl<'a> Evaluation<'a> {
    /// An evaluation in which nothing may be referred to: of names, types, conditions, parameters.
    pub(super) fn early(frame: &'a Frame) -> Self {
        Self { frame, known: None, budget: Budget::default() }
    }

    /// An evaluation of what a resource or an output says.
    pub(super) fn late(frame: &'a Frame, known: &'a Known) -> Self {
        Self { frame, known: Some(known), budget: Budget::default() }
    }

    /// The value of what the template says, expressions in keys and in all depths included.
    pub(super) fn value(&self, raw: &Value) -> Evaluated<Value> {
        let _level = self.budget.enter()?;
        let value = match raw {
            Value::String(text) => return self.string(text),
            Value::Array(values) => {
                let values = values.iter().enumerate();
                let evaluate =
                    |(index, value)| self.value(value).map_err(|fault| fault.under(&format!("[{index}]")));
                return values.map(evaluate).collect::<Evaluated<_>>().map(Value::Array);
            }
            Value::Object(members) => return self.object(members).map(Value::Object),
            simple => simple.clone(),
        };
        self.budget.pay(&value)?;
        Ok(value)
    }

    /// The members of an object.
    pub(super) fn object(&self, members: &Map<String, Value>) -> Evaluated<Map<String, Value>> {
        let mut evaluated = Map::new();
        for (key, value) in members {
            let evaluate = || {
                let key = match read(key).map_err(Fault::invalid)? {
                    Reading::Literal(key) => key.to_owned(),
                    Reading::Expression(expression) => functions::shown(&self.expression(&expression)?),
                };
                Ok((key, self.value(value)?))
            };
            let (key, value) = evaluate().map_err(|fault: Fault| fault.under(key))?;
            evaluated.insert(key, value);
        }
        Ok(evaluated)
    }

    /// The value of an expression.
    pub(super) fn expression(&self, expression: &Expression) -> Evaluated<Value> {
        let _level = self.budget.enter()?;
        let value = match expression {
            Expression::Text(text) => Value::String(text.clone()),
            Expression::Number(number) => Value::from(*number),
            Expression::Call { name, arguments } => self.call(name, arguments)?,
            Expression::Property(of, name) => property(self.expression(of)?, name)?,
            Expression::Index(of, by) => match self.expression(by)? {
                Value::String(name) => property(self.expression(of)?, &name)?,
                index => element(self.expression(of)?, &index)?,
            },
        };
        self.budget.pay(&value)?;
        Ok(value)
    }

    fn string(&self, text: &str) -> Evaluated<Value> {
        match read(text).map_err(Fault::invalid)? {
            Reading::Literal(text) => {
                let value = Value::String(text.to_owned());
                self.budget.pay(&value)?;
                Ok(value)
            }
            Reading::Expression(expression) => self.expression(&expression),
        }
    }

    fn call(&self, name: &str, arguments: &[Expression]) -> Evaluated<Value> {
        let lower = name.to_ascii_lowercase();
        match (lower.as_str(), arguments) {
            ("if", [condition, then, otherwise]) => {
                self.expression(if self.truth(name, condition)? { then } else { otherwise })
            }
            ("and" | "or", [_, _, ..]) => self.any_or_all(name, lower == "or", arguments),
            ("coalesce", [_, ..]) => self.coalesce(arguments),
            ("parameters", [of]) => self.slot("parameter", &self.frame.parameters, of),
            ("variables", [of]) => self.slot("variable", &self.frame.variables, of),
            ("resourcegroup", []) => Ok(self.frame.group()),
            ("subscription", []) => Ok(self.frame.subscription()),
            ("deployment", []) => Ok(self.frame.deployment()),
            ("environment", []) => Ok(self.frame.environment()),
            ("utcnow", []) => Ok(Value::String(functions::utc(self.frame.context.now))),
            ("utcnow", _) => Err(Fault::invalid(format!("{name}: only its default format is written here"))),
            ("reference", [of, rest @ ..]) if rest.len() <= 2 => self.reference(of, rest),
            ("resourceid" | "subscriptionresourceid", [_, _, ..]) => {
                self.resource_id(name, lower == "resourceid", arguments)
            }
            _ if SPECIAL.iter().any(|known| known.eq_ignore_ascii_case(name)) => {
                Err(Fault::invalid(format!("{name} does not take {} arguments", arguments.len())))
            }
            _ => {
                let values: Vec<Value> =
                    arguments.iter().map(|argument| self.expression(argument)).collect::<Evaluated<_>>()?;
                let result = functions::call(name, &values).ok_or_else(|| unknown(name))?;
                result.map_err(Fault::invalid)
            }
        }
    }

    fn truth(&self, name: &str, condition: &Expression) -> Evaluated<bool> {
        match self.expression(condition)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(Fault::invalid(format!("{name}: a condition must be a bool, not {}", kind(&other)))),
        }
    }

    fn any_or_all(&self, name: &str, any: bool, arguments: &[Expression]) -> Evaluated<Value> {
        for argument in arguments {
            if self.truth(name, argument)? == any {
                return Ok(Value::Bool(any));
            }
        }
        Ok(Value::Bool(!any))
    }

    fn coalesce(&self, arguments: &[Expression]) -> Evaluated<Value> {
        for argument in arguments {
            let value = self.expression(argument)?;
            if !value.is_null() {
                return Ok(value);
            }
        }
        Ok(Value::Null)
    }

    fn slot(&self, what: &str, slots: &Slots, of: &Expression) -> Evaluated<Value> {
        let name = self.text(what, of)?;
        match slots.get(&name.to_ascii_lowercase()) {
            Some(Slot::Value(value)) => Ok(value.clone()),
            Some(Slot::Raw(raw)) => {
                self.value(raw).map_err(|fault| fault.under(&format!("{what}s('{name}')")))
            }
            None => Err(Fault::invalid(format!("the template has no {what} {name:?}"))),
        }
    }

    fn text(&self, what: &str, expression: &Expression) -> Evaluated<String> {
        match self.expression(expression)? {
            Value::String(text) => Ok(text),
            other => Err(Fault::invalid(format!("{what}: a name must be a string, not {}", kind(&other)))),
        }
    }

    /// `reference(id or name, [version], ['Full'])`: its properties, or all of it.
    fn reference(&self, of: &Expression, rest: &[Expression]) -> Evaluated<Value> {
        let id = self.text("reference", of)?;
        let id = match id.starts_with('/') {
            true => identifiers::key(&id),
            false => self.frame.names.get(&id.to_ascii_lowercase()).cloned().ok_or_else(|| {
                Fault::invalid(format!("reference: the template has no resource of the name {id:?}"))
            })?,
        };
        let full = match rest.get(1) {
            Some(word) => self.text("reference", word)?.eq_ignore_ascii_case("Full"),
            None => false,
        };
        let known = self.known.and_then(|known| known.get(&id)).ok_or_else(|| Fault::Needs(id.clone()))?;
        match (full, known) {
            (true, known) => Ok(known.clone()),
            (false, Value::Object(members)) => {
                Ok(member(members, "properties").cloned().unwrap_or(Value::Null))
            }
            (false, _) => Ok(Value::Null),
        }
    }

    fn resource_id(&self, name: &str, in_group: bool, arguments: &[Expression]) -> Evaluated<Value> {
        let values: Vec<Value> =
            arguments.iter().map(|argument| self.expression(argument)).collect::<Evaluated<_>>()?;
        let context = &self.frame.context;
        let make = || {
            let (before, resource_type, names) = identifiers::arguments(&values)?;
            let scope = match (in_group, &before[..]) {
                (true, []) => identifiers::group(&context.subscription, &context.group),
                (true, [group]) => identifiers::group(&context.subscription, group),
                (true, [subscription, group]) => identifiers::group(subscription, group),
                (false, []) => format!("/subscriptions/{}", context.subscription),
                (false, [subscription]) => format!("/subscriptions/{subscription}"),
                _ => return Err(format!("{} arguments stand before the type", before.len())),
            };
            identifiers::join(&scope, resource_type, &names)
        };
        make().map(Value::String).map_err(|why| Fault::invalid(format!("{name}: {why}")))
    }
}

/// There is no such function.
pub(super) fn unknown(name: &str) -> Fault {
    Fault::invalid(format!("this control plane has no function {name:?}"))
}

fn property(of: Value, name: &str) -> Evaluated<Value> {
    let Value::Object(mut members) = of else {
        return Err(Fault::invalid(format!("{} has no property {name:?}", kind(&of))));
    };
    if let Some(value) = members.remove(name) {
        return Ok(value);
    }
    member(&members, name).cloned().ok_or_else(|| {
        let names: Vec<&str> = members.keys().map(String::as_str).take(20).collect();
        Fault::invalid(format!("there is no property {name:?}; there are: {}", names.join(", ")))
    })
}

fn element(of: Value, index: &Value) -> Evaluated<Value> {
    let Value::Array(mut values) = of else {
        return Err(Fault::invalid(format!("{} has no elements", kind(&of))));
    };
    let at = index.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < values.len());
    at.map(|at| values.swap_remove(at))
        .ok_or_else(|| Fault::invalid(format!("there is no element {index}; the array has {}", values.len())))
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
pub(in crate::deployment) mod tests;
