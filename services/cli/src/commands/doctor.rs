//! `transship doctor`: everything that transfers depend on, tried, with what to do about what does not work.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Serialize;
use transship_api::Health;
use transship_model::{BlobName, Code, Failure};
use transship_registry::Catalog;
use transship_storage::Access;

use super::lookup::login_server;
use super::pipeline::typed;
use super::watching;
use crate::args::{DoctorArgs, OutputFormat};
use crate::control::{Asked, ControlPlane};
use crate::exit::{Exit, Problem};
use crate::hints::{Doer, of_store, reword};
use crate::place::parse_place;
use crate::registry::connect;
use crate::report::{SCHEMA_VERSION, json, plain, text};
use crate::sas::{SOURCE_SAS, Store, TARGET_SAS, containers};
use crate::screen::{Screen, clean};

/// From when on two clocks that differ are worth a warning: tokens are short-lived.
const SKEW: Duration = Duration::from_secs(60);

/// The name of the checks of registries.
const REGISTRY: &str = "registry";

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    name: &'static str,
    status: Status,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, message: impl Into<String>) -> Self {
        Self { name, status, message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The check could not be made.
    pub(super) fn skipped(name: &'static str, problem: Problem) -> Self {
        Self { status: Status::Skipped, ..Self::failed(name, problem) }
    }

    fn failed(name: &'static str, problem: Problem) -> Self {
        let hint = problem.hint.clone();
        Self { hint, ..Self::new(name, Status::Failed, problem.to_string().replace('\n', "")) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    checks: &'a [Check],
}

/// Runs the command.
pub(crate) async fn doctor(
    args: &DoctorArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let mut checks = Vec::new();
    let control = match ControlPlane::connect(&args.connection) {
        Ok(control) => {
            checks.push(Check::new(
                "context",
                Status::Ok,
                format!("{}, {}", control.place.origin, control.place.url),
            ));
            Some(control)
        }
        Err(problem) => {
            checks.push(Check::failed("context", problem));
            None
        }
    };
    if let Some(control) = &control {
        let health = control.get("/transship/v1/health", "ask for its health").await;
        let refused = health.as_ref().is_err_and(|problem| problem.exit == Exit::Credentials);
        checks.extend(judge_health(health, Timestamp::now()));
        if !refused {
            let readable = resources(control).await;
            let ask = readable.status == Status::Ok;
            checks.push(readable);
            if ask {
                checks.extend(watching::check(control).await);
            }
        }
    }
    checks.extend(registries(args, control.as_ref()).await);
    checks.push(container(args).await);
    screen.data(&match format {
        OutputFormat::Json => json(&Report { schema_version: SCHEMA_VERSION, checks: &checks }),
        OutputFormat::Table => table(&checks),
    });
    Ok(conclude(&checks))
}

fn conclude(checks: &[Check]) -> Exit {
    match checks.iter().any(|check| check.status == Status::Failed) {
        true => Exit::Failed,
        false => Exit::Done,
    }
}

fn table(checks: &[Check]) -> String {
    let mut table = plain(["CHECK", "STATUS", "FOUND"]);
    for check in checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        };
        table.add_row([check.name, status, &clean(&check.message)]);
        if let Some(hint) = &check.hint {
            table.add_row(["", "", &format!("hint: {}", clean(hint))]);
        }
    }
    text(&table)
}

/// What the control plane says of itself: whether it answers, its clock, and what it depends on.
fn judge_health(asked: Result<Asked, Problem>, now: Timestamp) -> Vec<Check> {
    const NAME: &str = "control plane";
    let asked = match asked {
        Ok(asked) => asked,
        // It answers, but not to this token.
        Err(problem) if problem.exit == Exit::Credentials => {
            return vec![
                Check::new(NAME, Status::Ok, "it answers"),
                Check::failed("authentication", problem),
            ];
        }
        Err(problem) => return vec![Check::failed(NAME, problem)],
    };
    let health: Health = match typed(&asked.body, "ask for its health") {
        Ok(health) => health,
        Err(problem) => return vec![Check::failed(NAME, problem)],
    };
    let mut checks = vec![Check::new(NAME, Status::Ok, format!("it answers, version {}", health.version))];
    checks.push(judge_clock(asked.date.as_deref(), now));
    match health.reasons.as_slice() {
        [] if health.ready => {
            checks.push(Check::new("dependencies", Status::Ok, "it has its broker, its state and its stores"));
        }
        [] => checks.push(Check::new("dependencies", Status::Failed, "it is not ready, and does not say why")),
        reasons => checks.extend(reasons.iter().map(|reason| {
            Check::new("dependencies", Status::Failed, reason.clone())
                .hint("runs are accepted meanwhile, and start once it is there again: look at it, and at the control plane's log")
        })),
    }
    checks.extend(health.unattended.iter().map(|queue| {
        // The queue of `exporter.parts` is the exporter's.
        let stage = queue.split('.').next().unwrap_or(queue);
        Check::new(
            "stages",
            Status::Warning,
            format!("no {stage} is connected: nobody takes work from {queue}"),
        )
        .hint(format!("start transship-{stage}, or look at its log; work waits for it meanwhile"))
    }));
    checks
}

fn judge_clock(date: Option<&str>, now: Timestamp) -> Check {
    const NAME: &str = "clocks";
    let parsed = date.and_then(|date| rfc2822::parse(date).ok());
    let Some(theirs) = parsed else {
        return Check::new(NAME, Status::Skipped, "the control plane does not say its time");
    };
    let skew = now.duration_since(theirs.timestamp());
    match Duration::try_from(skew.abs()) {
        Ok(skew) if skew <= SKEW => {
            Check::new(NAME, Status::Ok, "this machine's clock and the control plane's agree")
        }
        _ => {
            let (seconds, word) =
                (skew.as_secs().abs(), if skew.is_negative() { "behind" } else { "ahead of" });
            Check::new(NAME, Status::Warning, format!("this machine's clock is {seconds} s {word} the control plane's"))
                .hint("set both by NTP: tokens and SAS tokens of a clock that is wrong are not valid yet, or not any more")
        }
    }
}

/// Whether the token may read resources.
async fn resources(control: &ControlPlane) -> Check {
    const NAME: &str = "authentication";
    let asked = async {
        let registry = control.registries()?.remove(0);
        let runs = format!("{registry}/pipelineRuns");
        control.query(&runs, &[("$top", "1")], "list runs").await.map(|_| registry)
    };
    match asked.await {
        Ok(registry) => {
            Check::new(NAME, Status::Ok, format!("runs of registry {} can be read", registry.name()))
        }
        Err(problem) if problem.exit == Exit::Usage => {
            Check { status: Status::Warning, ..Check::failed(NAME, problem) }
        }
        Err(problem) => Check::failed(NAME, problem),
    }
}

/// Whether this machine reaches the registries with its credentials.
async fn registries(args: &DoctorArgs, control: Option<&ControlPlane>) -> Vec<Check> {
    if let Some(address) = &args.address {
        return vec![registry(address, args).await];
    }
    let known = control.and_then(|control| Some((control, control.registries().ok()?)));
    let Some((control, known)) = known else {
        let check = Check::new(REGISTRY, Status::Skipped, "no registry is known");
        return vec![check.hint("say --address HOST, or --registry NAME")];
    };
    let mut checks = Vec::new();
    for id in known {
        checks.push(match login_server(control, &id).await {
            Ok(address) => registry(&address, args).await,
            Err(problem) => Check::skipped(REGISTRY, problem),
        });
    }
    checks
}

async fn registry(address: &str, args: &DoctorArgs) -> Check {
    let client = match connect(address, &args.reach) {
        Ok(client) => client,
        Err(problem) => return Check::failed(REGISTRY, problem),
    };
    match client.list_repositories().await.map_err(Failure::from) {
        Ok(Some(all)) => {
            let count = all.len();
            let noun = if count == 1 { "repository" } else { "repositories" };
            Check::new(REGISTRY, Status::Ok, format!("{address} answers, and lists {count} {noun}"))
        }
        Ok(None) => {
            Check::new(REGISTRY, Status::Ok, format!("{address} answers; it does not list repositories"))
        }
        // Tokens that may pull often may not list.
        Err(failure) if failure.code == Code::RegistryForbidden => {
            let check = Check::failed(REGISTRY, reword(failure.into(), Doer::Command(&[])));
            Check { status: Status::Warning, ..check }
        }
        Err(failure) => Check::failed(REGISTRY, failure.into())
            .hint("check its address and that it runs there; --address HOST[:PORT] tries another"),
    }
}

/// Whether this machine reaches the container with its token.
async fn container(args: &DoctorArgs) -> Check {
    const NAME: &str = "container";
    let Some(place) = &args.container else {
        return Check::new(NAME, Status::Skipped, "no container is named").hint("say --container PLACE");
    };
    match try_container(args, place).await {
        Ok(shown) => Check::new(NAME, Status::Ok, format!("{shown} can be read")),
        Err(problem) => Check::failed(NAME, problem),
    }
}

async fn try_container(args: &DoctorArgs, place: &str) -> Result<String, Problem> {
    let url = parse_place(place)?;
    let variables = &[SOURCE_SAS, TARGET_SAS];
    let store = Store::new("doctor-sas", url, args.sas_file.as_deref(), "--sas-file", variables);
    let containers = containers(&[&store])?;
    let failed = |failure: Failure| of_store(failure, &store);
    let open =
        containers.open(&store.url, store.credential().as_ref(), Access::READ).await.map_err(failed)?;
    let nothing: BlobName = "transship-doctor-looks-for-nothing".parse().expect("a constant that is a name");
    open.properties(&nothing).await.map_err(|error| failed(error.into()))?;
    Ok(store.url.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-25T20:00:00Z".parse().unwrap()
    }

    fn asked(ready: bool, reasons: &[&str]) -> Result<Asked, Problem> {
        let body = json!({"version": "1", "ready": ready, "reasons": reasons});
        Ok(Asked { status: 200, date: Some("Wed, 25 Nov 2026 20:00:03 GMT".to_owned()), body })
    }

    fn statuses(checks: &[Check]) -> Vec<(&str, Status)> {
        checks.iter().map(|check| (check.name, check.status)).collect()
    }

    #[test]
    fn what_the_control_plane_lacks_is_a_check_each() {
        let (good, bad) = (Status::Ok, Status::Failed);
        let checks = judge_health(asked(true, &[]), now());
        assert_eq!(statuses(&checks), [("control plane", good), ("clocks", good), ("dependencies", good)]);
        assert_eq!(conclude(&checks), Exit::Done);
        let checks = judge_health(asked(false, &["broker: away", "state: full"]), now());
        assert_eq!(statuses(&checks)[2..], [("dependencies", bad), ("dependencies", bad)]);
        assert_eq!(checks[2].message, "broker: away");
        assert!(checks[2].hint.is_some());
        assert_eq!(conclude(&checks), Exit::Failed);
        let body =
            json!({"version": "1", "ready": true, "reasons": [], "unattended": ["blob-copier.copies"]});
        let alone = Asked { status: 200, date: None, body };
        let checks = judge_health(Ok(alone), now());
        assert_eq!(statuses(&checks)[3..], [("stages", Status::Warning)]);
        assert!(checks[3].message.contains("no blob-copier is connected"), "{}", checks[3].message);
        assert_eq!(conclude(&checks), Exit::Done, "a stage may be meant to be elsewhere");
        let refused = judge_health(Err(Problem::new(Exit::Credentials, "no").hint("a token")), now());
        assert_eq!(statuses(&refused), [("control plane", good), ("authentication", bad)]);
        assert_eq!(
            statuses(&judge_health(Err(Problem::new(Exit::Failed, "away")), now())),
            [("control plane", bad)]
        );
    }

    #[test]
    fn clocks_that_differ_are_told() {
        for (date, status, message) in [
            (Some("Wed, 25 Nov 2026 20:00:59 GMT"), Status::Ok, "agree"),
            (Some("Wed, 25 Nov 2026 20:05:00 GMT"), Status::Warning, "is 300 s behind the"),
            (Some("Wed, 25 Nov 2026 19:55:00 GMT"), Status::Warning, "is 300 s ahead of the"),
            (Some("yesterday"), Status::Skipped, "does not say"),
            (None, Status::Skipped, "does not say"),
        ] {
            let check = judge_clock(date, now());
            assert!(check.status == status && check.message.contains(message), "{date:?}: {check:?}");
        }
    }
}
