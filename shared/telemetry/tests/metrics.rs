//! The exposition is held to the inventory, and the inventory to the rules of Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use transship_model::{Code, Stage};
use transship_telemetry::inventory::{self, Kind};
use transship_telemetry::{
    BlobResult, BusCondition, CopyMode, Direction, LabelValue, MessageOutcome, Metrics, Outcome, PartOutcome,
};

/// One line of the exposition: the name, the labels, the value.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn samples(text: &str) -> Vec<Sample> {
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), value.trim_matches('"').to_owned())
        });
        Sample { name: name.to_owned(), labels: pairs.collect(), value: value.parse().unwrap() }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

fn value(metrics: &Metrics, name: &str, label: (&str, &str)) -> f64 {
    let found = samples(&metrics.render()).into_iter().find(|sample| {
        sample.name == name
            && (label.0.is_empty() || sample.labels.get(label.0).is_some_and(|v| v == label.1))
    });
    found.unwrap_or_else(|| panic!("{name} {label:?}")).value
}

/// Every typed method once, with every value that it takes.
fn touch(metrics: &Metrics) {
    Outcome::all().iter().for_each(|outcome| metrics.artifacts(*outcome, 1));
    Direction::all().iter().for_each(|direction| metrics.bytes(*direction, 1));
    BlobResult::all().iter().for_each(|result| metrics.blobs(*result, 1));
    PartOutcome::all().iter().for_each(|outcome| metrics.part(*outcome));
    MessageOutcome::all().iter().for_each(|outcome| metrics.message(*outcome));
    BusCondition::all().iter().for_each(|condition| metrics.bus_state(*condition));
    CopyMode::all().iter().for_each(|mode| metrics.copy_mode(*mode));
    Code::ALL.iter().for_each(|code| metrics.retry(*code));
    Code::ALL.iter().for_each(|code| metrics.error(*code));
    metrics.stage_duration(Duration::from_millis(1500));
    metrics.publish_duration(Duration::from_millis(3));
    metrics.worker_slots(3, 1);
    metrics.byte_budget(1 << 20, 64 << 20);
    drop(metrics.part_in_flight());
}

#[test]
fn every_family_follows_the_naming_rules() {
    let mut seen = BTreeSet::new();
    for family in inventory::ALL {
        let name = family.name;
        assert!(seen.insert(name), "{name} is in the inventory twice");
        assert!(name.starts_with("transship_"), "{name} has no application prefix");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(family.help.ends_with('.') && family.help.len() > 10, "{name} has no help text");
        let words: Vec<_> = name.split('_').collect();
        assert_eq!(
            matches!(family.kind, Kind::Counter),
            words.last() == Some(&"total"),
            "{name}: _total is for counters"
        );
        for word in [
            "milliseconds",
            "ms",
            "minutes",
            "hours",
            "kb",
            "mb",
            "kilobytes",
            "megabytes",
            "percent",
            "bits",
        ] {
            assert!(!words.contains(&word), "{name}: use the base unit, not {word}");
        }
        for word in ["counter", "gauge", "histogram", "count", "sum", "bucket"] {
            assert!(!words.contains(&word), "{name}: the kind is not part of a name");
        }
        let unit = words.iter().position(|word| ["seconds", "bytes"].contains(word));
        let last = words.len() - if matches!(family.kind, Kind::Counter) { 2 } else { 1 };
        assert!(unit.is_none_or(|at| at == last), "{name}: the unit comes last");
        if let Kind::Histogram { buckets } = family.kind {
            assert!(buckets.is_sorted() && buckets.len() <= 20, "{name}");
        }
        for label in family.labels {
            assert!(
                !["le", "quantile", "job", "instance"].contains(&label.name),
                "{name}: {} is taken",
                label.name
            );
            let values = (label.values)();
            assert!(!values.is_empty() && values.len() <= 40, "{name}: {} is not a small set", label.name);
        }
    }
}

#[test]
fn the_exposition_is_what_the_inventory_says() {
    let metrics = Metrics::new(Stage::BlobCopier);
    touch(&metrics);
    let text = metrics.render();
    for family in inventory::ALL {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram { .. } => "histogram",
        };
        assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{}", family.name);
    }
    for sample in samples(&text) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.name.strip_suffix(suffix));
        let family = inventory::ALL.iter().find(|family| {
            family.name == sample.name
                || matches!(family.kind, Kind::Histogram { .. }) && Some(family.name) == base
        });
        let Some(family) = family else {
            assert!(sample.name.starts_with("process_"), "{} is not in the inventory", sample.name);
            continue;
        };
        for (key, value) in sample.labels.iter().filter(|(key, _)| key.as_str() != "le") {
            let label = family.labels.iter().find(|label| label.name == key).expect(key);
            assert!((label.values)().contains(&value.as_str()), "{}: {key}={value}", sample.name);
        }
        let keys = sample.labels.keys().filter(|key| key.as_str() != "le").count();
        assert_eq!(keys, family.labels.len(), "{}", sample.name);
    }
}

#[test]
fn every_series_is_there_from_the_start_and_a_thousand_artifacts_add_none() {
    let metrics = Metrics::new(Stage::Exporter);
    let before = samples(&metrics.render());
    let idle = before
        .iter()
        .filter(|sample| sample.name.ends_with("_total") && sample.name.starts_with("transship_"));
    assert!(idle.clone().count() > 60);
    assert!(idle.clone().all(|sample| sample.value == 0.0));
    for _ in 0..1_000 {
        touch(&metrics);
    }
    let after = samples(&metrics.render());
    assert_eq!(before.len(), after.len());
    assert!(after.len() < 250, "{} series", after.len());
}

#[test]
fn values_arrive_where_they_belong() {
    let metrics = Metrics::new(Stage::Importer);
    let clone = metrics.clone();
    clone.artifacts(Outcome::Skipped, 7);
    clone.bytes(Direction::Written, 4096);
    clone.retry(Code::RegistryUnavailable);
    clone.bus_state(BusCondition::Connecting);
    clone.bus_state(BusCondition::Blocked);
    assert_eq!(value(&metrics, "transship_artifacts_total", ("outcome", "skipped")), 7.0);
    assert_eq!(value(&metrics, "transship_artifacts_total", ("stage", "importer")), 0.0);
    assert_eq!(value(&metrics, "transship_bytes_total", ("direction", "written")), 4096.0);
    assert_eq!(value(&metrics, "transship_retries_total", ("reason", "RegistryUnavailable")), 1.0);
    assert_eq!(value(&metrics, "transship_bus_state", ("state", "connecting")), 0.0);
    assert_eq!(value(&metrics, "transship_bus_state", ("state", "blocked")), 1.0);
    assert_eq!(value(&metrics, "transship_build_info", ("version", inventory::VERSION)), 1.0);
    assert_eq!(value(&metrics, "transship_messages_total", ("queue", "importer.imports")), 0.0);
    assert!(value(&metrics, "transship_peak_resident_memory_bytes", ("", "")) > 1e6);
    assert!(value(&metrics, "process_resident_memory_bytes", ("", "")) > 1e6);

    let (one, two) = (metrics.part_in_flight(), metrics.part_in_flight());
    assert_eq!(value(&metrics, "transship_parts_in_flight", ("", "")), 2.0);
    drop((one, two));
    assert_eq!(value(&metrics, "transship_parts_in_flight", ("", "")), 0.0);

    metrics.part(PartOutcome::Failed);
    assert_eq!(value(&metrics, "transship_last_success_timestamp_seconds", ("", "")), 0.0);
    metrics.part(PartOutcome::Succeeded);
    assert!(value(&metrics, "transship_last_success_timestamp_seconds", ("", "")) > 1.7e9);
}
