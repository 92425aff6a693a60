//! What the command line says of itself, and of a command line that is wrong. No server is asked.

mod support;

use support::Home;

#[tokio::test]
async fn every_help_text_is_as_it_was() {
    let home = Home::new();
    for (name, arguments) in [
        ("transship", &[][..]),
        ("export", &["export"]),
        ("import", &["import"]),
        ("transfer", &["transfer"]),
        ("bundle", &["bundle"]),
        ("bundle_inspect", &["bundle", "inspect"]),
        ("bundle_list", &["bundle", "list"]),
        ("bundle_verify", &["bundle", "verify"]),
        ("run", &["run"]),
        ("run_export", &["run", "export"]),
        ("run_create", &["run", "create"]),
        ("run_list", &["run", "list"]),
        ("run_show", &["run", "show"]),
        ("run_watch", &["run", "watch"]),
        ("run_delete", &["run", "delete"]),
        ("run_clean", &["run", "clean"]),
        ("pipeline", &["pipeline"]),
        ("pipeline_export", &["pipeline", "export"]),
        ("pipeline_export_create", &["pipeline", "export", "create"]),
        ("pipeline_import_create", &["pipeline", "import", "create"]),
        ("pipeline_import_list", &["pipeline", "import", "list"]),
        ("route", &["route"]),
        ("route_create", &["route", "create"]),
        ("artifact_show", &["artifact", "show"]),
        ("repository_list", &["repository", "list"]),
        ("blob_list", &["blob", "list"]),
        ("deployment_create", &["deployment", "create"]),
        ("doctor", &["doctor"]),
        ("context", &["context"]),
        ("context_set", &["context", "set"]),
        ("version", &["version"]),
        ("completion", &["completion"]),
    ] {
        let ended = home.run(&[arguments, &["--help"]].concat()).await.ok();
        insta::assert_snapshot!(format!("help_{name}"), ended.stdout);
    }
}

#[tokio::test]
async fn a_wrong_command_line_says_what_is_wrong_and_what_is_near() {
    let home = Home::new();
    let mut seen = String::new();
    for arguments in [
        &["exprot"][..],
        &["export", "--registy", "x"],
        &["export", "--registry", "r.example", "--to", "out", "--blob", "../x", "a:1"],
        &["export", "--registry", "r.example", "--to", "out", "--blob", "b"],
        &["export", "--registry", "r.example", "--to", "out", "--blob", "b", "team/app"],
        &["export", "--registry", "r.example", "--to", "out", "--blob", "b", "localhost:5000/team/app:1"],
        &["export", "--registry", "http://r.example", "--to", "out", "--blob", "b", "a:1"],
        &[
            "export",
            "--registry",
            "r.example",
            "--to",
            "https://a.blob.core.windows.net/c?sig=CANARY",
            "--blob",
            "b",
            "a:1",
        ],
        &["import", "--registry", "r.example"],
        &["import", "--registry", "r.example", "--from", "out", "--blob", "b", "--rename", "team"],
        &["import", "--registry", "r.example", "--file", "nowhere.tar"],
        &["bundle", "list", "nowhere.tar"],
        &["bundle", "list", "."],
        &["run", "export", "--artifact", "a:1", "--blob", "b"],
    ] {
        let ended = home.run(arguments).await;
        assert!(ended.stdout.is_empty() && matches!(ended.code, 1 | 2), "{ended:#?}");
        assert!(!ended.stderr.contains("CANARY"), "{}", ended.stderr);
        seen += &format!("$ transship {}\n{}exit code {}\n\n", arguments.join(" "), ended.stderr, ended.code);
    }
    let seen = seen.replace("CANARY", "…");
    insta::assert_snapshot!(
        "wrong_command_lines",
        seen.replace(&home.folder.path().display().to_string(), "[HOME]")
    );
}

#[tokio::test]
async fn the_version_is_data() {
    let home = Home::new();
    let version = home.run(&["version", "-o", "json"]).await.ok().json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["schemaVersion"].is_u64() && version["bundleVersion"].is_u64());
    let line = home.run(&["version"]).await.ok().stdout;
    assert!(line.starts_with("transship ") && line.lines().count() == 1, "{line}");
}

#[tokio::test]
async fn completions_know_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = home.run(&["completion", shell]).await.ok().stdout;
        assert!(script.contains("transfer") && script.contains("overwrite-tags"), "{shell}");
    }
}
