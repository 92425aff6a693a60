//! The artifacts that a command is asked for: from the command line, a file or standard input.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use transship_model::ArtifactReference;

use crate::exit::Problem;

/// The largest list that is read, in bytes: a million references of usual length.
const MAX_LIST: u64 = 128 << 20;

/// How many faults of a list are shown.
const SHOWN_FAULTS: usize = 20;

/// The artifacts among `texts` and in `file` (`-` is standard input), each once, in their order.
///
/// # Errors
/// Every fault of the list at once, or that there is no artifact at all.
pub(crate) fn gather(texts: &[String], file: Option<&Path>) -> Result<Vec<ArtifactReference>, Problem> {
    let listed = file.map(read).transpose()?.unwrap_or_default();
    let named = texts.iter().map(|text| (None, text.as_str()));
    let in_file = listed.lines().enumerate().filter_map(|(number, line)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        (!text.is_empty()).then_some((Some(number + 1), text))
    });
    parse(named.chain(in_file))
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::usage(format!("the list of artifacts in {} cannot be read", path.display()))
            .caused_by(&error)
    };
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(unreadable)?)
    };
    let mut text = String::new();
    reader.take(MAX_LIST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_LIST {
        return Err(Problem::usage(format!("the list of artifacts has more than {MAX_LIST} bytes")));
    }
    Ok(text)
}

fn parse<'a>(
    texts: impl Iterator<Item = (Option<usize>, &'a str)>,
) -> Result<Vec<ArtifactReference>, Problem> {
    let (mut references, mut faults) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (line, text) in texts {
        match text.parse::<ArtifactReference>() {
            Ok(reference) if seen.insert(reference.clone()) => references.push(reference),
            Ok(_) => {}
            Err(error) => {
                let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                faults.push((text, format!("{place}{error}")));
            }
        }
    }
    if faults.is_empty() {
        return match references.is_empty() {
            true => Err(Problem::usage("there is no artifact to move").hint(
                "name artifacts as repository:tag or repository@sha256:…, or list them in a file for --artifacts-file",
            )),
            false => Ok(references),
        };
    }
    let with_registry = faults.iter().any(|(text, _)| names_a_registry(text));
    let mut shown: Vec<String> = faults.iter().take(SHOWN_FAULTS).map(|(_, fault)| fault.clone()).collect();
    if faults.len() > SHOWN_FAULTS {
        shown.push(format!("and {} more", faults.len() - SHOWN_FAULTS));
    }
    let first = shown.remove(0);
    Err(Problem { causes: shown, ..Problem::usage(first) }.hint(if with_registry {
        "leave the registry out of the artifact's name: an option says which registry is meant"
    } else {
        "an artifact is repository:tag or repository@sha256:…"
    }))
}

/// Whether the first component looks like the host of a registry.
fn names_a_registry(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, _)| first.contains(':') || first == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_blank_lines_and_repetitions() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("list");
        std::fs::write(&file, "# the base images\n\nteam/a:1 # newest\r\n  team/b:2\nteam/a:1\n").unwrap();
        let found = gather(&["team/c:3".to_owned(), "team/a:1".to_owned()], Some(&file)).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["team/c:3", "team/a:1", "team/b:2"]);
    }

    #[test]
    fn every_fault_of_a_list_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("list");
        std::fs::write(&file, "team/a:1\nteam/b\nTEAM/c:1\n").unwrap();
        let problem = gather(&["localhost:5000/team/d:1".to_owned()], Some(&file)).unwrap_err();
        let text = problem.to_string();
        assert!(text.contains("line 2: ") && text.contains("line 3: "), "{text}");
        assert!(problem.hint.unwrap().starts_with("leave the registry out"));
    }

    #[test]
    fn no_artifact_at_all_is_a_fault_too() {
        assert!(gather(&[], None).unwrap_err().message.contains("no artifact"));
        let missing = gather(&[], Some(Path::new("/nowhere/list"))).unwrap_err();
        assert_eq!((missing.exit.code(), missing.causes.len()), (2, 1));
    }
}
