//! Which control plane a command asks: by option, environment, the context in use, or the stack of `make up`.

use std::path::PathBuf;

use transship_model::Secret;
use url::Url;

use super::contexts::{Context, Contexts};
use super::local::LocalStack;
use super::{address, local};
use crate::args::ConnectionArgs;
use crate::exit::{Exit, Problem};

/// The environment variable with the bearer token.
const TOKEN: &str = "TRANSSHIP_TOKEN";
/// The environment variable with the context's name.
const CONTEXT: &str = "TRANSSHIP_CONTEXT";
/// The largest file that is read as a token, in bytes. Tokens of Microsoft Entra have a few thousand.
const MAX_TOKEN: u64 = 64 << 10;
/// The subscription where nothing names one. To the control plane it is a part of names, and nothing more.
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
/// The resource group where nothing names one. To the control plane it is a part of names, and nothing more.
const GROUP: &str = "transship";

/// A control plane, and what commands need to know to ask it.
#[derive(Debug)]
pub(crate) struct Place {
    /// Which context it is, for messages.
    pub(crate) origin: String,
    pub(crate) url: Url,
    pub(crate) token: Token,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) subscription: String,
    pub(crate) group: String,
    /// The registry of export pipelines, and that of import pipelines, which is the same but in a stack on this
    /// machine.
    pub(crate) registries: Option<[String; 2]>,
    /// The stack on this machine, where it is one.
    pub(crate) stack: Option<LocalStack>,
}

/// Where the bearer token is.
#[derive(Debug, Clone)]
pub(crate) enum Token {
    /// There is none: a control plane on loopback may ask for none.
    None,
    /// It is known.
    Known(Secret),
    /// It is in a file, which is read at each command.
    File(PathBuf),
}

impl Token {
    /// The token now.
    ///
    /// # Errors
    /// Where its file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Secret>, Problem> {
        let path = match self {
            Self::None => return Ok(None),
            Self::Known(token) => return Ok(Some(token.clone())),
            Self::File(path) => path,
        };
        let text = std::fs::metadata(path).and_then(|found| match found.len() {
            0..=MAX_TOKEN => std::fs::read_to_string(path),
            _ => Err(std::io::Error::other(format!("it has more than {MAX_TOKEN} bytes"))),
        });
        let text = text.map_err(|error| {
            Problem::new(Exit::Credentials, format!("the token in {} cannot be read", path.display()))
                .caused_by(&error)
                .hint("write the token into this file, or name another with `transship context set NAME --token-file FILE`")
        })?;
        Ok(Some(Secret::new(&text)).filter(|token| !token.expose().is_empty()))
    }
}

/// What the environment says.
#[derive(Debug, Default)]
struct Environment {
    context: Option<String>,
    token: Option<Secret>,
}

/// The control plane that `args`, the environment, the contexts or the stack on this machine mean.
///
/// # Errors
/// Where none of them means one, or what they say cannot be used.
pub(crate) fn choose(args: &ConnectionArgs) -> Result<Place, Problem> {
    let full = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let environment =
        Environment { context: full(CONTEXT), token: full(TOKEN).map(|token| Secret::new(&token)) };
    decide(args, environment, &Contexts::read()?, LocalStack::find)
}

fn decide(
    args: &ConnectionArgs,
    environment: Environment,
    contexts: &Contexts,
    stack: impl FnOnce() -> Result<Option<LocalStack>, Problem>,
) -> Result<Place, Problem> {
    let name = args.context.as_ref().or(environment.context.as_ref()).or(contexts.current.as_ref());
    let mut place = match name {
        Some(name) => of_context(name, contexts.named(name)?)?,
        None => of_stack(stack()?.ok_or_else(nowhere)?)?,
    };
    if let Some(token) = environment.token {
        place.token = Token::Known(token);
    }
    if let Some(registry) = &args.registry {
        place.registries = Some([registry.clone(), registry.clone()]);
    }
    if let Some(group) = &args.group {
        place.group.clone_from(group);
    }
    if let Some(subscription) = &args.subscription {
        place.subscription.clone_from(subscription);
    }
    Ok(place)
}

fn nowhere() -> Problem {
    Problem::usage("no control plane is known").hint(
        "make a context with `transship context set NAME --url URL --token-file FILE --registry NAME`, or start a \
         stack on this machine with `make up`",
    )
}

fn of_context(name: &str, context: &Context) -> Result<Place, Problem> {
    Ok(Place {
        origin: format!("context {name}"),
        url: address::parse(&context.url)?,
        token: context.token_file.clone().map_or(Token::None, Token::File),
        ca_file: context.ca_file.clone(),
        subscription: context.subscription.clone().unwrap_or_else(|| SUBSCRIPTION.to_owned()),
        group: context.group.clone().unwrap_or_else(|| GROUP.to_owned()),
        registries: context.registry.clone().map(|registry| [registry.clone(), registry]),
        stack: None,
    })
}

fn of_stack(stack: LocalStack) -> Result<Place, Problem> {
    let (source, target) = (stack.source_registry.name.clone(), stack.target_registry.name.clone());
    Ok(Place {
        origin: format!("the stack of `make up` ({})", local::FILE),
        url: address::parse(&stack.control_plane.url)?,
        token: stack.control_plane.token.clone().map_or(Token::None, Token::Known),
        ca_file: None,
        subscription: stack.control_plane.subscription.clone().unwrap_or_else(|| SUBSCRIPTION.to_owned()),
        group: stack.control_plane.group.clone().unwrap_or_else(|| GROUP.to_owned()),
        registries: source.zip(target).map(|(source, target)| [source, target]),
        stack: Some(stack),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(current: Option<&str>) -> Contexts {
        let context = |host: &str| Context {
            url: format!("https://{host}.example"),
            token_file: Some("/t".into()),
            registry: Some(format!("{host}reg")),
            group: Some("g".to_owned()),
            ..Context::default()
        };
        let contexts = ["one", "two"].map(|name| (name.to_owned(), context(name))).into();
        Contexts { current: current.map(str::to_owned), contexts }
    }

    fn stack() -> Result<Option<LocalStack>, Problem> {
        let text = r#"{"control_plane": {"url": "http://127.0.0.1:1", "token": "t", "subscription": "s"},
            "source_registry": {"name": "source"}, "target_registry": {"name": "target"}}"#;
        Ok(Some(serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn an_option_wins_over_the_environment_the_context_in_use_and_the_stack() {
        let none = || Ok(None);
        for (option, variable, current, expected) in [
            (Some("one"), Some("two"), Some("two"), "context one"),
            (None, Some("two"), Some("one"), "context two"),
            (None, None, Some("one"), "context one"),
        ] {
            let args = ConnectionArgs { context: option.map(str::to_owned), ..ConnectionArgs::default() };
            let environment = Environment { context: variable.map(str::to_owned), token: None };
            let place = decide(&args, environment, &contexts(current), none).unwrap();
            assert_eq!(place.origin, expected);
        }
        let args = ConnectionArgs::default();
        let place = decide(&args, Environment::default(), &contexts(None), stack).unwrap();
        assert_eq!(
            place.registries.as_ref().map(|[a, b]| (a.as_str(), b.as_str())),
            Some(("source", "target"))
        );
        assert_eq!((place.subscription.as_str(), place.group.as_str()), ("s", GROUP));
        let problem = decide(&args, Environment::default(), &contexts(None), none).unwrap_err();
        assert!(problem.hint.unwrap().contains("context set"));
        let unknown = ConnectionArgs { context: Some("x".to_owned()), ..args };
        assert!(decide(&unknown, Environment::default(), &contexts(Some("one")), stack).is_err());
    }

    #[test]
    fn options_change_what_a_context_says_and_the_environment_may_give_the_token() {
        let args = ConnectionArgs {
            registry: Some("other".to_owned()),
            group: Some("h".to_owned()),
            subscription: Some("s2".to_owned()),
            context: None,
        };
        let environment = Environment { context: None, token: Some(Secret::new("CANARY")) };
        let place = decide(&args, environment, &contexts(Some("one")), || Ok(None)).unwrap();
        assert_eq!(place.registries.as_ref().unwrap(), &["other", "other"]);
        assert_eq!((place.group.as_str(), place.subscription.as_str()), ("h", "s2"));
        assert!(matches!(&place.token, Token::Known(token) if token.expose() == "CANARY"));
        assert!(!format!("{place:?}").contains("CANARY"));
    }

    #[test]
    fn a_tokens_file_is_read_at_each_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token = Token::File(file.clone());
        assert_eq!(token.read().unwrap_err().exit.code(), 4);
        for text in ["one\n", "two"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(token.read().unwrap().unwrap().expose(), text.trim());
        }
    }
}
