//! Hints in the words of the command line. The stages speak of secrets, options and pipelines; a person at a
//! terminal has files, flags and a command to repeat.

use transship_model::{Code, Failure};

use crate::exit::Problem;
use crate::sas::Store;

/// Who does the work, and so what a person can do about a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doer<'a> {
    /// This command, with these containers: another flag, another file, and the command once more.
    Command(&'a [&'a Store]),
    /// Services, with secrets and credentials of their own.
    Services,
}

/// The problem with its hint in the words of the command line.
pub(crate) fn reword(mut problem: Problem, doer: Doer<'_>) -> Problem {
    let hint = problem.code.and_then(|code| match doer {
        Doer::Command(stores) => of_command(code, &problem, stores),
        Doer::Services => of_run(code),
    });
    problem.hint = hint.or(problem.hint);
    problem
}

/// What only the person who starts a run can do about it; the rest is for those who run the services.
fn of_run(code: Code) -> Option<String> {
    (code == Code::BlobExists).then(|| OVERWRITE_BLOBS.to_owned())
}

const OVERWRITE_BLOBS: &str =
    "choose another name with --blob, or repeat the command with --overwrite-blobs to replace it";

fn of_command(code: Code, problem: &Problem, stores: &[&Store]) -> Option<String> {
    let store = stores.iter().find(|store| problem.message.contains(&store.url.to_string()));
    let store = store.or(stores.first());
    let advice = store.map(|store| store.advice.as_str()).unwrap_or_default();
    let is_directory = store.is_some_and(|store| store.secret.is_none());
    Some(match code {
        Code::SasExpired => format!("put a new SAS token into {advice}, and repeat the command: it resumes"),
        Code::SasPermission => format!(
            "issue a SAS token that also grants these letters, put it into {advice}, and repeat the command: it resumes"
        ),
        Code::ConfigurationInvalid if is_about_a_token(&problem.message) => {
            format!("put the SAS token of the container, and nothing else, into {advice}")
        }
        Code::BlobExists => OVERWRITE_BLOBS.to_owned(),
        Code::TagExists => {
            "repeat the command with --overwrite-tags to move the tag, or import under another name \
                            with --rename or --as"
                .to_owned()
        }
        Code::ContainerNotFound if is_directory => {
            "check the path; a directory that is to be written to must be made first (mkdir -p)".to_owned()
        }
        Code::RegistryForbidden => {
            "log in with `docker login REGISTRY`, or check what this user may pull and push there".to_owned()
        }
        // Containers have no such list here: what is denied is where a registry led to.
        Code::EgressDenied => {
            "where you trust that host with the registry's credentials, say --allow-host HOST[:PORT]"
                .to_owned()
        }
        Code::RegistryUnavailable | Code::StorageUnavailable | Code::SourceChanged
            if problem.hint.is_none() =>
        {
            "repeat the command: it resumes where it was".to_owned()
        }
        _ => return None,
    })
}

/// Whether a failure of the configuration is about a SAS token: its file, or what is in it.
fn is_about_a_token(message: &str) -> bool {
    message.starts_with("secret ") || message.contains("the SAS token for ")
}

/// A failure of one container.
pub(crate) fn of_store(failure: Failure, store: &Store) -> Problem {
    reword(failure.into(), Doer::Command(&[store]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sas::{SOURCE_SAS, TARGET_SAS};

    #[test]
    fn a_hint_names_the_file_of_the_container_that_failed() {
        let store = |name: &str, option: &str, variables: &'static [&'static str]| {
            Store::new(name, format!("https://{name}.example/c").parse().unwrap(), None, option, variables)
        };
        let via = store("via", "--via-sas-file", &[SOURCE_SAS]);
        let copy = store("copy", "--copy-to-sas-file", &[TARGET_SAS]);
        let failure = |container: &Store| {
            Failure::permanent(Code::SasExpired, format!("the SAS token for {} expired", container.url))
        };
        for (container, expected) in
            [(&via, "--via-sas-file, or into TRANSSHIP_SOURCE_SAS"), (&copy, "--copy-to-sas-file")]
        {
            let problem = reword(failure(container).into(), Doer::Command(&[&via, &copy]));
            assert!(problem.hint.as_ref().unwrap().contains(expected), "{problem:?}");
        }
    }

    #[test]
    fn options_are_named_as_flags() {
        for (code, flag) in [(Code::BlobExists, "--overwrite-blobs"), (Code::TagExists, "--overwrite-tags")] {
            let failure = Failure::permanent(code, "x").with_hint("set OverwriteSomething");
            assert!(reword(failure.into(), Doer::Command(&[])).hint.unwrap().contains(flag));
        }
    }
    #[test]
    fn what_services_need_is_not_this_commands_to_give() {
        for (code, is_kept) in
            [(Code::SasExpired, true), (Code::RegistryForbidden, true), (Code::BlobExists, false)]
        {
            let failure = Failure::permanent(code, "x").with_hint("the stage's own words");
            let hint = reword(failure.into(), Doer::Services).hint.unwrap();
            assert_eq!(hint == "the stage's own words", is_kept, "{code}: {hint}");
        }
    }
}
