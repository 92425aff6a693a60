//! `transship deployment …`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::pipeline::write;
use crate::args::{DeploymentArgs, DeploymentCommand, DeploymentCreateArgs, NameArgs, OutputFormat};
use crate::control::{ControlPlane, check_old_name};
use crate::exit::{Exit, Problem};
use crate::files::read_text;
use crate::report::resources;
use crate::screen::Screen;

/// The largest template or file of parameters, in bytes: Azure Resource Manager's own bound.
const MAX_FILE: u64 = 4 << 20;

/// Runs the command.
pub(crate) async fn deployment(
    args: &DeploymentArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    match &args.command {
        DeploymentCommand::Create(args) => create(args, format, screen).await,
        DeploymentCommand::Show(args) => show(args, format, screen).await,
    }
}

fn path(control: &ControlPlane, name: &str) -> String {
    let (subscription, group) = (&control.place.subscription, &control.place.group);
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Resources/deployments/{name}"
    )
}

async fn create(args: &DeploymentCreateArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let stem = args.template_file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = args.name.as_deref().unwrap_or(stem);
    check_old_name(name)?;
    let template = read_json(&args.template_file)?;
    let parameters = parameters(&args.parameters, &template)?;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("deploy {name}");
    let body = json!({
        "properties": { "mode": "Incremental", "template": template, "parameters": parameters }
    });
    let deployed = control.put(&path(&control, name), &body, &what).await?.body;
    write(&deployed, resources::deployment, &what, format, screen)?;
    Ok(Exit::Done)
}

async fn show(args: &NameArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    check_old_name(&args.name)?;
    let control = ControlPlane::connect(&args.connection)?;
    let what = format!("show deployment {}", args.name);
    let deployment = control.get(&path(&control, &args.name), &what).await?.body;
    write(&deployment, resources::deployment, &what, format, screen)?;
    Ok(Exit::Done)
}

fn read_json(path: &Path) -> Result<Value, Problem> {
    let problem = |what: &str| Problem::usage(format!("{} {what}", path.display()));
    let text = read_text(path, MAX_FILE).map_err(|error| problem("cannot be read").caused_by(&error))?;
    // Editors on Windows begin their files with this mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|error| {
        let hint = "comments are not JSON; a Bicep file becomes a template with `az bicep build`";
        problem("is not JSON").caused_by(&error).hint(hint)
    })
}

/// The parameters that `texts` give, each `NAME=VALUE` or a file; the later ones win.
fn parameters(texts: &[String], template: &Value) -> Result<Map<String, Value>, Problem> {
    let mut all = Map::new();
    for text in texts {
        if let Some(file) = file_of(text) {
            all.extend(in_file(Path::new(file))?);
            continue;
        }
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Problem::usage(format!("{text:?} is neither NAME=VALUE nor a file with parameters"))
                .hint("a file is @FILE, or has a name that ends with .json")
        })?;
        let kind = declared_type(template, name);
        all.insert(name.to_owned(), json!({ "value": value_of(name, value, kind.as_deref())? }));
    }
    Ok(all)
}

fn file_of(text: &str) -> Option<&str> {
    let is_file = !text.contains('=') && text.to_ascii_lowercase().ends_with(".json");
    text.strip_prefix('@').or(is_file.then_some(text))
}

/// The parameters of a file of parameters, with or without the frame that Azure's have.
fn in_file(path: &Path) -> Result<Map<String, Value>, Problem> {
    let found = match read_json(path)? {
        Value::Object(mut members) => match members.remove("parameters") {
            Some(inner) => inner,
            None => Value::Object(members),
        },
        other => other,
    };
    match found {
        Value::Object(parameters) => Ok(parameters),
        _ => Err(Problem::usage(format!("{} does not hold parameters", path.display()))
            .hint("it must hold {\"parameters\": {\"NAME\": {\"value\": …}}}")),
    }
}

/// The type of a parameter in lower case, where the template declares it.
fn declared_type(template: &Value, name: &str) -> Option<String> {
    let declared = template.get("parameters")?.as_object()?;
    let (_, declaration) = declared.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(declaration.get("type")?.as_str()?.to_ascii_lowercase())
}

fn value_of(name: &str, text: &str, kind: Option<&str>) -> Result<Value, Problem> {
    match kind {
        Some("string") => Ok(json!(text)),
        Some(secure) if secure.starts_with("secure") => Err(Problem::usage(format!(
            "parameter {name} is a secret, which other users of this machine could read here"
        ))
        .hint("put it into a file that only you can read: --parameters @FILE")),
        Some(kind) => serde_json::from_str(text).map_err(|error| {
            let problem =
                Problem::usage(format!("parameter {name} is of type {kind}, and its value is not JSON"));
            problem.caused_by(&error).hint(format!("write it as JSON, such as '{name}=[\"a\", \"b\"]'"))
        }),
        // The control plane says that there is no such parameter.
        None => Ok(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_the_type_that_the_template_declares() {
        let template = json!({"parameters": {
            "Name": {"type": "string"}, "count": {"type": "int"}, "list": {"type": "Array"}, "secret": {"type": "secureString"}
        }});
        for (text, expected) in [
            ("name=true", Some(json!({"name": {"value": "true"}}))),
            ("name=a=b", Some(json!({"name": {"value": "a=b"}}))),
            ("count=3", Some(json!({"count": {"value": 3}}))),
            ("list=[\"a\"]", Some(json!({"list": {"value": ["a"]}}))),
            ("list=a", None),
            ("secret=CANARY", None),
            ("unknown=x", Some(json!({"unknown": {"value": "x"}}))),
            ("nothing", None),
            ("nowhere.json", None),
        ] {
            let result = parameters(&[text.to_owned()], &template);
            assert!(!format!("{result:?}").contains("CANARY"), "{result:?}");
            assert_eq!(result.ok().map(Value::Object), expected, "{text}");
        }
    }

    #[test]
    fn what_is_said_later_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        std::fs::write(
            &file,
            "\u{feff}{\"$schema\": \"x\", \"parameters\": {\"a\": {\"value\": 1}, \"b\": {\"value\": 2}}}",
        )
        .unwrap();
        let file = format!("@{}", file.display());
        let all =
            parameters(&[file, "b=3".to_owned()], &json!({"parameters": {"b": {"type": "int"}}})).unwrap();
        assert_eq!(Value::Object(all), json!({"a": {"value": 1}, "b": {"value": 3}}));
    }
}
