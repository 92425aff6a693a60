//! The directory of secrets, on a real file system.

use std::os::unix::fs::symlink;
use std::path::Path;

use transship_model::{Class, Code, Failure, Secret, SecretName};
use transship_secrets::{FixedSecrets, MAX_SECRET_BYTES, SecretDirectory, SecretError, Secrets};

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

async fn read(directory: &Path, text: &str) -> Result<String, SecretError> {
    SecretDirectory::new(directory).secret(&name(text)).await.map(|secret| secret.expose().to_owned())
}

#[tokio::test]
async fn a_secret_is_the_trimmed_text_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("source-sas"), "  sv=1&sig=CANARY \r\n").unwrap();
    assert_eq!(read(directory.path(), "source-sas").await.unwrap(), "sv=1&sig=CANARY");
}

#[tokio::test]
async fn a_rotated_secret_works_at_once_also_behind_links() {
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| directory.path().join(file);
    for generation in ["one", "two"] {
        std::fs::create_dir(at(generation)).unwrap();
        std::fs::write(at(generation).join("sas"), generation).unwrap();
    }
    symlink("one", at("data")).unwrap();
    symlink("data/sas", at("sas")).unwrap();
    let secrets = SecretDirectory::new(directory.path());
    assert_eq!(secrets.secret(&name("sas")).await.unwrap().expose(), "one");
    symlink("two", at("next")).unwrap();
    std::fs::rename(at("next"), at("data")).unwrap();
    assert_eq!(secrets.secret(&name("sas")).await.unwrap().expose(), "two");
}

#[tokio::test]
async fn a_missing_secret_says_where_its_file_belongs() {
    let directory = tempfile::tempdir().unwrap();
    let failure = Failure::from(read(directory.path(), "target-sas").await.unwrap_err());
    assert_eq!((failure.class, failure.code), (Class::Parked, Code::ConfigurationInvalid));
    assert_eq!(failure.message, "secret target-sas is missing");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("file target-sas"), "{hint}");
    assert!(hint.contains(&directory.path().display().to_string()), "{hint}");

    let nowhere = directory.path().join("nowhere");
    let error = read(&nowhere, "target-sas").await.unwrap_err();
    assert!(matches!(error, SecretError::NoDirectory { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_not_a_secret_is_refused_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| directory.path().join(file);
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("blank"), " \n\t").unwrap();
    std::fs::write(at("binary"), b"CANARY\xff\xfe").unwrap();
    std::fs::write(at("large"), "CANARY".repeat(MAX_SECRET_BYTES as usize)).unwrap();
    std::fs::write(at("limit"), "x".repeat(MAX_SECRET_BYTES as usize)).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());

    for (file, expected) in [
        ("empty", "secret empty is empty"),
        ("blank", "secret blank is empty"),
        ("binary", "secret binary is not text in UTF-8"),
        ("large", "secret large has more than 65536 bytes"),
        ("folder", "secret folder is not a regular file"),
        ("pipe", "secret pipe is not a regular file"),
    ] {
        let error = read(directory.path(), file).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        let mut shown = format!("{error:?}");
        shown.push_str(&format!("{:?}", Failure::from(error)));
        assert!(!shown.contains("CANARY"), "{shown}");
    }
    assert_eq!(read(directory.path(), "limit").await.unwrap().len() as u64, MAX_SECRET_BYTES);
}

#[tokio::test]
async fn the_twin_in_memory_keeps_the_same_promises() {
    let secrets =
        FixedSecrets::new([(name("sas"), Secret::new("CANARY\n")), (name("blank"), Secret::new(" "))]);
    assert_eq!(secrets.secret(&name("sas")).await.unwrap().expose(), "CANARY");
    assert!(matches!(secrets.secret(&name("blank")).await, Err(SecretError::Empty { .. })));
    assert!(matches!(secrets.secret(&name("other")).await, Err(SecretError::NotGiven { .. })));
    assert!(!format!("{secrets:?}").contains("CANARY"));
}
