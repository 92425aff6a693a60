//! Places: a directory, a `file:` URL, or the URL of an Azure container.

use std::path::{Path, absolute};

use transship_model::{ContainerUrl, ContainerUrlError};

use crate::exit::Problem;

/// The container that a person means by `text`. What has no scheme is the path of a directory, which need not
/// exist yet.
///
/// # Errors
/// A [`Problem`] that says what is wrong and never repeats what may be a token.
pub(crate) fn parse_place(text: &str) -> Result<ContainerUrl, Problem> {
    let is_scheme = |(scheme, _): (&str, &str)| scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+');
    if text.starts_with("file:") || text.split_once("://").is_some_and(is_scheme) {
        return text.parse().map_err(|error| refused(&error));
    }
    of_directory(Path::new(text))
}

/// The directory `path` as a container.
///
/// # Errors
/// Where the path is empty, or the working directory is gone.
pub(crate) fn of_directory(path: &Path) -> Result<ContainerUrl, Problem> {
    let path = absolute(path)
        .map_err(|error| Problem::usage(format!("{path:?} is not a directory's path")).caused_by(&error))?;
    // Only what a URL cannot hold; whether it exists is for the storage to say.
    ContainerUrl::of_directory(&path).map_err(|error| refused(&error))
}

fn refused(error: &ContainerUrlError) -> Problem {
    let problem = Problem::usage(error.to_string());
    match error {
        ContainerUrlError::CarriesASecret => problem.hint(
            "leave out everything from the `?` on, and put it into a file (--…-sas-file) or into the environment",
        ),
        ContainerUrlError::NotAContainer => problem.hint(
            "a place is a directory, such as ./out, or https://ACCOUNT.blob.core.windows.net/CONTAINER",
        ),
        ContainerUrlError::PlainHttp => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_unless_it_has_a_scheme() {
        let here = std::env::current_dir().unwrap();
        for (text, expected) in [
            ("https://a.blob.core.windows.net/c", "https://a.blob.core.windows.net/c".to_owned()),
            ("http://127.0.0.1:10000/a/c/", "http://127.0.0.1:10000/a/c".to_owned()),
            ("file:///srv/out", "file:///srv/out".to_owned()),
            ("/srv/out/", "file:///srv/out".to_owned()),
            ("out", format!("file://{}/out", here.display())),
            ("./out", format!("file://{}/out", here.display())),
            ("/srv/odd?name#x", "file:///srv/odd%3Fname%23x".to_owned()),
        ] {
            assert_eq!(parse_place(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_token_in_a_place_is_refused_and_not_repeated() {
        let problem = parse_place("https://a.blob.core.windows.net/c?sv=1&sig=CANARY").unwrap_err();
        let shown = format!("{problem} {:?}", problem.hint);
        assert!(shown.contains("sas-file") && !shown.contains("CANARY"), "{shown}");
        assert!(parse_place("ftp://a/c").is_err() && parse_place("").is_err());
    }
}
