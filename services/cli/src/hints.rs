//! Hints in the words of the command line. The stages speak of secrets, options and pipelines; a person at a
//! terminal has files, flags and a command to repeat.

use transship_model::{Code, Failure};

use crate::exit::Problem;
use crate::sas::Store;

/// A failure of work with the containers `stores`.
pub(crate) fn reword(mut problem: Problem, stores: &[&Store]) -> Problem {
    let Some(code) = problem.code else { return problem };
    let named = || stores.iter().find(|store| problem.message.contains(&store.url.to_string()));
    let advice = || named().or(stores.first()).map(|store| store.advice.clone()).unwrap_or_default();
    let is_directory = named().is_some_and(|store| store.secret.is_none());
    let hint = match code {
        Code::SasExpired => Some(format!("put a new SAS token into {}, and repeat the command: it resumes", advice())),
        Code::SasPermission => Some(format!(
            "issue a SAS token that also grants these letters, put it into {}, and repeat the command: it resumes",
            advice()
        )),
        Code::BlobExists => {
            Some("choose another name with --blob, or repeat the command with --overwrite-blobs to replace it".to_owned())
        }
        Code::TagExists => Some(
            "repeat the command with --overwrite-tags to move the tag, or import under another name with --rename or --as"
                .to_owned(),
        ),
        Code::ContainerNotFound if is_directory => {
            Some("make the directory first, for example with mkdir -p; it is not made for you, since the name may be a mistake".to_owned())
        }
        Code::RegistryForbidden => {
            Some("log in with `docker login REGISTRY`, or check what this user may pull and push there".to_owned())
        }
        Code::EgressDenied => problem.hint.clone(),
        Code::RegistryUnavailable | Code::StorageUnavailable | Code::SourceChanged if problem.hint.is_none() => {
            Some("repeat the command: it resumes where it was".to_owned())
        }
        _ => problem.hint.clone(),
    };
    problem.hint = hint;
    problem
}

/// A failure of one container.
pub(crate) fn of_store(failure: Failure, store: &Store) -> Problem {
    reword(failure.into(), &[store])
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
            let problem = reword(failure(container).into(), &[&via, &copy]);
            assert!(problem.hint.as_ref().unwrap().contains(expected), "{problem:?}");
        }
    }

    #[test]
    fn options_are_named_as_flags() {
        for (code, flag) in [(Code::BlobExists, "--overwrite-blobs"), (Code::TagExists, "--overwrite-tags")] {
            let failure = Failure::permanent(code, "x").with_hint("set OverwriteSomething");
            assert!(reword(failure.into(), &[]).hint.unwrap().contains(flag));
        }
    }
}
