//! What the control plane refuses, in the words of the command line: its message, its code, and what to do.

use transship_api::{ErrorBody, ErrorDetail};

use crate::exit::{Exit, Problem};

/// The longest part of an answer that is not ARM's, in characters.
const MAX_SHOWN: usize = 200;

/// The problem that an answer with `status` and `body` is, when the command wanted to do `what`.
pub(crate) fn problem(what: &str, status: u16, body: &[u8]) -> Problem {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => of_detail(what, status, &body.error),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let shown: String = text.trim().chars().take(MAX_SHOWN).collect();
            let message = match shown.is_empty() {
                true => format!("{what}: the control plane answered {status}"),
                false => format!("{what}: the control plane answered {status}: {shown}"),
            };
            with_hint(Problem::new(exit(status), message), status, "")
        }
    }
}

fn of_detail(what: &str, status: u16, error: &ErrorDetail) -> Problem {
    let target = error.target.as_ref().map(|target| format!(", {target}")).unwrap_or_default();
    let mut problem =
        Problem::new(exit(status), format!("{what}: {} ({}{target})", error.message, error.code));
    problem.causes = causes(error);
    with_hint(problem, status, &error.code)
}

/// More faults of the same request, each once.
pub(crate) fn causes(error: &ErrorDetail) -> Vec<String> {
    let details = error.details.iter().filter(|detail| !error.message.contains(&detail.message));
    details.map(|detail| format!("{} ({})", detail.message, detail.code)).collect()
}

fn exit(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Credentials,
        400 | 405 | 413 | 415 | 422 => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn with_hint(problem: Problem, status: u16, code: &str) -> Problem {
    let hint = match (status, code) {
        (401, _) => {
            "put a token that this control plane knows into the file of the context (`transship context set NAME \
                     --token-file FILE`), or into TRANSSHIP_TOKEN"
        }
        (403, _) => {
            "the token may not do this, it seems: it needs another role (`contributor` does everything)"
        }
        (404, _) => {
            "look at what there is: `transship pipeline export list`, `transship run list` and so on; --registry \
                     names another registry"
        }
        (409, _) => "wait for the run's end (`transship run watch NAME`), or choose another name",
        (429, _) => "the control plane takes no more requests for now: repeat the command later",
        (500.., _) => "look into the control plane's log, and at `transship doctor`",
        _ => return problem,
    };
    problem.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_code_and_message_are_shown_with_what_to_do() {
        let body = |code: &str| {
            format!(r#"{{"error":{{"code":"{code}","message":"No such thing.","target":"name"}}}}"#)
        };
        for (status, code, exit, hint) in [
            (400, "InvalidName", 2, None),
            (401, "AuthenticationFailed", 4, Some("token")),
            (403, "AuthorizationFailed", 4, Some("contributor")),
            (404, "ResourceNotFound", 1, Some("list")),
            (409, "Conflict", 1, Some("run watch")),
            (429, "TooManyRequests", 1, Some("later")),
            (503, "ServiceUnavailable", 1, Some("doctor")),
        ] {
            let problem = problem("show run x", status, body(code).as_bytes());
            assert_eq!(problem.message, format!("show run x: No such thing. ({code}, name)"));
            assert_eq!(problem.exit.code(), exit, "{status}");
            assert_eq!(problem.hint.is_some(), hint.is_some(), "{status}");
            assert!(problem.hint.unwrap_or_default().contains(hint.unwrap_or_default()), "{status}");
        }
    }

    #[test]
    fn an_answer_of_something_else_is_shown_in_part() {
        let problem = problem("list runs", 502, "<html>".repeat(1000).as_bytes());
        assert!(problem.message.starts_with("list runs: the control plane answered 502: <html>"));
        assert!(problem.message.len() < 300, "{problem}");
        assert_eq!(
            super::problem("list runs", 500, b"").message,
            "list runs: the control plane answered 500"
        );
    }
}
