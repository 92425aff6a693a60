use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::Deserialize;
use transship_model::{SecretName, Stage};

use super::*;
use crate::HostSettings;

#[derive(Debug, Deserialize, PartialEq)]
struct Settings {
    #[serde(default)]
    host: HostSettings,
    bus: Bus,
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Bus {
    url: String,
    secret: SecretName,
    stage: Stage,
    #[serde(default = "four")]
    slots: NonZeroU16,
    #[serde(default)]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Registry {
    url: String,
    #[serde(default)]
    insecure: bool,
}

fn four() -> NonZeroU16 {
    NonZeroU16::new(4).unwrap()
}

const BUS: &str = "[bus]\nurl = \"amqp://broker\"\nsecret = \"broker\"\nstage = \"exporter\"\n";

fn read(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("transship.toml");
    std::fs::write(&file, toml).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = SettingsSource { file: Some(file), variables, overrides: Vec::new() };
    load(&source).map_err(|mut error| {
        let folder = format!("{}/", directory.path().display());
        for fault in &mut error.faults {
            fault.place = fault.place.take().map(|place| place.replace(&folder, ""));
            fault.problem = fault.problem.replace(&folder, "");
        }
        error
    })
}

fn faults(toml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    read(toml, variables).unwrap_err().faults().iter().map(ToString::to_string).collect()
}

#[test]
fn variables_go_over_the_file_and_overrides_over_both() {
    let file = format!("{BUS}slots = 2\n[registries.Source-A]\nurl = \"https://a\"\n");
    let settings = read(&file, &[]).unwrap();
    assert_eq!((settings.bus.slots.get(), settings.host.drain_seconds), (2, 30));

    let variables = [
        ("TRANSSHIP_BUS__SLOTS", "8"),
        ("TRANSSHIP_HOST__LISTEN", "0.0.0.0:0"),
        ("TRANSSHIP_HOST__LOG_FORMAT", "json"),
        ("TRANSSHIP_REGISTRIES__SOURCE_A__INSECURE", "true"),
        ("TRANSSHIP_REGISTRIES__OTHER__URL", "https://b"),
        ("TRANSSHIP_LABELS", "[\"x\", \"y\"]"),
        ("HOME", "/"),
    ];
    let settings = read(&file, &variables).unwrap();
    assert_eq!((settings.bus.slots.get(), settings.host.listen.port()), (8, 0));
    assert!(settings.registries["Source-A"].insecure);
    assert_eq!(settings.registries["other"].url, "https://b");
    assert_eq!(settings.labels, ["x", "y"]);

    let text =
        |items: &[(&str, &str)]| items.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let source = SettingsSource {
        file: None,
        variables: text(&[("TRANSSHIP_BUS__SLOTS", "8"), ("TRANSSHIP_BUS__STAGE", "importer")]),
        overrides: text(&[("bus.slots", "9"), ("bus.url", "u"), ("bus.secret", "s")]),
    };
    let settings: Settings = load(&source).unwrap();
    assert_eq!((settings.bus.slots.get(), settings.bus.stage), (9, Stage::Importer));
}

#[test]
fn text_that_looks_like_a_number_is_text_where_text_is_meant() {
    let variables = [("TRANSSHIP_BUS__URL", "12345"), ("TRANSSHIP_BUS__SECRET", "true")];
    let settings = read(BUS, &variables).unwrap();
    assert_eq!((settings.bus.url.as_str(), settings.bus.secret.as_str()), ("12345", "true"));
}

#[test]
fn every_fault_is_reported_at_once_with_its_place_and_what_is_expected() {
    let file = "[bus]\nslots = 0\nlisten = \"nowhere\"\nsecret = \"../x\"\ncolour = \"red\"\n\n\
                [registries.a]\nurl = 5\ninsecure = \"yes\"\n[registries.b]\n\n[typo]\nx = 1\n";
    let variables = [
        ("TRANSSHIP_HOST__DRAIN_SECONDS", "soon"),
        ("TRANSSHIP_HOST__LOG_FORMAT", "xml"),
        ("TRANSSHIP_HOST__DRIAN", "1"),
        ("TRANSSHIP_LABELS", "[1, \"a\", 2]"),
        ("TRANSSHIP___X", "1"),
    ];
    let mut found = faults(file, &variables);
    found.sort();
    assert_eq!(
        found,
        [
            "TRANSSHIP_HOST__DRAIN_SECONDS: host.drain_seconds: expected u64, found a string",
            "TRANSSHIP_HOST__DRIAN: host.drian: there is no such setting",
            "TRANSSHIP_HOST__LOG_FORMAT: host.log_format: expected `text` or `json`",
            "TRANSSHIP_LABELS: labels[0]: expected a string, found an integer",
            "TRANSSHIP_LABELS: labels[2]: expected a string, found an integer",
            "TRANSSHIP___X: not the name of a setting; TRANSSHIP_BUS__SLOTS is bus.slots",
            "bus.stage: missing; set it in transship.toml or as TRANSSHIP_BUS__STAGE",
            "bus.url: missing; set it in transship.toml or as TRANSSHIP_BUS__URL",
            "registries.b.url: missing; set it in transship.toml or as TRANSSHIP_REGISTRIES__B__URL",
            "transship.toml:12: typo: there is no such setting",
            "transship.toml:2: bus.slots: expected a nonzero u16",
            "transship.toml:3: bus.listen: invalid socket address syntax",
            "transship.toml:4: bus.secret: \"../x\" is not a name: 1 to 127 letters, digits, '-', '_' and '.', \
             starting with a letter or digit",
            "transship.toml:5: bus.colour: there is no such setting",
            "transship.toml:8: registries.a.url: expected a string, found an integer",
            "transship.toml:9: registries.a.insecure: expected a boolean, found a string",
        ]
    );
}

#[test]
fn a_number_that_does_not_fit_is_explained_as_a_number() {
    let found = faults(BUS, &[("TRANSSHIP_BUS__SLOTS", "70000")]);
    assert_eq!(found, ["TRANSSHIP_BUS__SLOTS: bus.slots: expected a nonzero u16"]);
}

#[test]
fn without_any_source_everything_that_is_required_is_named() {
    let error = load::<Settings>(&SettingsSource::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the settings have"), "{text}");
    for key in ["bus.url", "bus.secret", "bus.stage"] {
        assert!(text.contains(&format!("\n  {key}: missing; set it as TRANSSHIP_")), "{text}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_told_by_line_and_its_text_is_not_shown() {
    let found = faults("[bus]\nurl = CANARY-SECRET\n[other\nx = 1\n", &[]);
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("transship.toml:2: "), "{found:?}");
    assert!(!found.concat().contains("CANARY"), "{found:?}");
    assert_eq!(faults("a = 1\na = 2\n", &[]).len(), 1);

    let missing = SettingsSource { file: Some("no-such-file.toml".into()), ..SettingsSource::default() };
    let error = load::<Settings>(&missing).unwrap_err();
    assert!(error.to_string().starts_with("the settings have a fault: no-such-file.toml: cannot be read: "));
}

#[test]
fn a_value_in_the_wrong_place_is_never_repeated() {
    let file = format!(
        "{BUS}slots = \"CANARY, expected nothing\"\nlisten = 7\n[registries]\na = \"CANARY\"\n[host]\nlog_format = \"CANARY\"\n"
    );
    let found = faults(&file, &[("TRANSSHIP_HOST", "CANARY"), ("TRANSSHIP_LABELS", "CANARY")]);
    assert!(found.len() >= 4, "{found:?}");
    assert!(!found.concat().contains("CANARY"), "{found:?}");
}

#[test]
fn what_kubernetes_and_the_tests_put_into_the_environment_is_no_setting() {
    let variables = [
        ("TRANSSHIP_EXPORTER_SERVICE_HOST", "10.0.0.1"),
        ("TRANSSHIP_EXPORTER_SERVICE_PORT_METRICS", "9464"),
        ("TRANSSHIP_EXPORTER_PORT", "tcp://10.0.0.1:9464"),
        ("TRANSSHIP_EXPORTER_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("TRANSSHIP_CONFIG", "x"),
        ("TRANSSHIP_RIG", "y"),
    ];
    assert!(read(BUS, &variables).is_ok());
    assert_eq!(faults(BUS, &[("TRANSSHIP_PORT", "1")]).len(), 1);
}

#[test]
fn what_the_types_do_not_hold_is_checked_and_placed_too() {
    let source = SettingsSource {
        variables: vec![("TRANSSHIP_DRAIN_SECONDS".into(), "7".into())],
        ..SettingsSource::default()
    };
    let check = |settings: &HostSettings| {
        let wrong = settings.drain_seconds == 7;
        wrong.then(|| ("drain_seconds".to_owned(), "must not be 7".to_owned())).into_iter().collect()
    };
    let error = load_checked(&source, check).unwrap_err();
    assert_eq!(error.faults()[0].to_string(), "TRANSSHIP_DRAIN_SECONDS: drain_seconds: must not be 7");
}
