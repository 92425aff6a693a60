//! `transship context …`.

use std::path::{Path, PathBuf, absolute};

use serde_json::{Value, json};

use crate::args::{ConnectionArgs, ContextArgs, ContextCommand, ContextSetArgs, OutputFormat};
use crate::control::{Context, Contexts, Token, choose};
use crate::exit::{Exit, Problem};
use crate::report::resources::{facts, listed};
use crate::report::{SCHEMA_VERSION, json};
use crate::screen::Screen;

/// Runs the command.
pub(crate) fn context(args: &ContextArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let mut contexts = Contexts::read()?;
    match &args.command {
        ContextCommand::Set(args) => {
            set(&mut contexts, args)?;
            contexts.write()?;
            screen.note(&format!("context {} is remembered", args.name));
        }
        ContextCommand::Use(args) => {
            contexts.named(&args.name)?;
            contexts.current = Some(args.name.clone());
            contexts.write()?;
            screen.note(&format!("context {} is in use", args.name));
        }
        ContextCommand::Delete(args) => {
            contexts.named(&args.name)?;
            contexts.contexts.remove(&args.name);
            contexts.current = contexts.current.take().filter(|current| *current != args.name);
            contexts.write()?;
            screen.note(&format!("context {} is forgotten", args.name));
        }
        ContextCommand::List => screen.data(&list(&contexts, format)),
        ContextCommand::Show(args) => screen.data(&show(&contexts, args.name.as_deref(), format)?),
    }
    Ok(Exit::Done)
}

fn set(contexts: &mut Contexts, args: &ContextSetArgs) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if args.name.is_empty() || args.name.len() > 64 || !args.name.chars().all(fits) {
        return Err(Problem::usage(format!("{:?} cannot be the name of a context", args.name))
            .hint("a name has letters, digits, `-`, `_` and `.`"));
    }
    let mut context = contexts.contexts.get(&args.name).cloned().unwrap_or_default();
    change(&mut context, args)?;
    if context.url.is_empty() {
        return Err(Problem::usage(format!("context {} has no address yet", args.name)).hint("say --url URL"));
    }
    crate::control::check_address(&context.url)?;
    contexts.contexts.insert(args.name.clone(), context);
    contexts.current.get_or_insert_with(|| args.name.clone());
    Ok(())
}

fn change(context: &mut Context, args: &ContextSetArgs) -> Result<(), Problem> {
    if let Some(url) = &args.url {
        context.url.clone_from(url);
    }
    // Commands run in other directories later.
    for (given, kept) in [(&args.token_file, &mut context.token_file), (&args.ca_file, &mut context.ca_file)]
    {
        if let Some(given) = given {
            *kept = Some(whole(given)?);
        }
    }
    let texts = [
        (&args.subscription, &mut context.subscription),
        (&args.group, &mut context.group),
        (&args.registry, &mut context.registry),
    ];
    for (given, kept) in texts {
        if given.is_some() {
            kept.clone_from(given);
        }
    }
    Ok(())
}

fn whole(path: &Path) -> Result<PathBuf, Problem> {
    absolute(path).map_err(|error| Problem::usage(format!("{path:?} is not a file's path")).caused_by(&error))
}

fn row(name: &str, context: &Context, is_current: bool) -> Value {
    let mut row = serde_json::to_value(context).unwrap_or_default();
    row["name"] = json!(name);
    row["current"] = json!(is_current);
    row
}

fn list(contexts: &Contexts, format: OutputFormat) -> String {
    let is_current = |name: &String| contexts.current.as_ref() == Some(name);
    let rows: Vec<Value> =
        contexts.contexts.iter().map(|(name, context)| row(name, context, is_current(name))).collect();
    match format {
        OutputFormat::Json => json(&rows),
        OutputFormat::Table => {
            let mut rows = rows;
            for row in &mut rows {
                row["current"] = json!(if row["current"] == true { "*" } else { "" });
            }
            listed(["NAME", "IN USE", "URL", "REGISTRY"], ["/name", "/current", "/url", "/registry"], &rows)
        }
    }
}

fn show(contexts: &Contexts, name: Option<&str>, format: OutputFormat) -> Result<String, Problem> {
    if let Some(name) = name {
        let context = contexts.named(name)?;
        let is_current = contexts.current.as_deref() == Some(name);
        return Ok(match format {
            OutputFormat::Json => json(&row(name, context, is_current)),
            OutputFormat::Table => {
                let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
                facts(&[
                    ("name", name.to_owned()),
                    ("url", context.url.clone()),
                    ("token file", path(&context.token_file).unwrap_or_default()),
                    ("ca file", path(&context.ca_file).unwrap_or_default()),
                    ("subscription", context.subscription.clone().unwrap_or_default()),
                    ("group", context.group.clone().unwrap_or_default()),
                    ("registry", context.registry.clone().unwrap_or_default()),
                ])
            }
        });
    }
    let place = choose(&ConnectionArgs::default())?;
    let token = match &place.token {
        Token::None => "none".to_owned(),
        // From the environment, or from the file of the stack.
        Token::Known(_) => "known".to_owned(),
        Token::File(path) => path.display().to_string(),
    };
    let mut registries = place.registries.clone().map(|both| both.to_vec()).unwrap_or_default();
    registries.dedup();
    Ok(match format {
        OutputFormat::Json => json(&json!({
            "schemaVersion": SCHEMA_VERSION,
            "origin": place.origin,
            "url": place.url.as_str(),
            "token": token,
            "subscription": place.subscription,
            "group": place.group,
            "registries": registries,
        })),
        OutputFormat::Table => facts(&[
            ("in use", place.origin.clone()),
            ("url", place.url.to_string()),
            ("token", token),
            ("subscription", place.subscription.clone()),
            ("group", place.group.clone()),
            ("registries", registries.join(" and ")),
        ]),
    })
}
