//! The tables: who may know whom, which crate belongs to which room, and what is never built.

use std::collections::BTreeMap;

/// A package of the workspace and the packages of the workspace that it may depend on, names without the
/// prefix `transship-`. Each line may only name packages of lines above it, so the map has no circle.
///
/// A service never depends on a service; the command line is the one place that composes them.
pub(crate) const MAP: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("messages", &["model"]),
    ("bus", &["model"]),
    ("secrets", &["model"]),
    ("storage", &["model", "secrets"]),
    ("registry", &["model", "secrets"]),
    ("bundle", &["model"]),
    ("telemetry", &["model"]),
    ("host", &["model", "telemetry"]),
    ("stage", &["model", "messages", "bus", "secrets", "telemetry", "host"]),
    (
        "exporter",
        &[
            "model",
            "messages",
            "bus",
            "storage",
            "registry",
            "bundle",
            "secrets",
            "telemetry",
            "host",
            "stage",
        ],
    ),
    (
        "blob-copier",
        &["model", "messages", "bus", "storage", "bundle", "secrets", "telemetry", "host", "stage"],
    ),
    (
        "importer",
        &[
            "model",
            "messages",
            "bus",
            "storage",
            "registry",
            "bundle",
            "secrets",
            "telemetry",
            "host",
            "stage",
        ],
    ),
    ("api", &[]),
    (
        "control-plane",
        &[
            "model",
            "messages",
            "bus",
            "storage",
            "registry",
            "bundle",
            "secrets",
            "telemetry",
            "host",
            "stage",
            "api",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "model",
            "messages",
            "bus",
            "storage",
            "registry",
            "bundle",
            "secrets",
            "telemetry",
            "host",
            "stage",
            "exporter",
            "blob-copier",
            "importer",
            // In its tests alone: it speaks to a real one.
            "control-plane",
        ],
    ),
    ("rig", &[]),
    (
        "tests",
        &[
            "model",
            "messages",
            "bus",
            "storage",
            "registry",
            "bundle",
            "secrets",
            "telemetry",
            "host",
            "stage",
            "exporter",
            "blob-copier",
            "importer",
            "rig",
        ],
    ),
];

/// An outside crate (with `*`: every crate whose name begins so) and the only packages that may depend on it.
pub(crate) struct Fence {
    /// The crate's name, or the beginning of it.
    pub(crate) krate: &'static str,
    /// Names without the prefix `transship-`.
    pub(crate) rooms: &'static [&'static str],
    /// Whether every package may use it in its tests.
    pub(crate) in_tests: bool,
}

/// The fences.
pub(crate) const FENCES: &[Fence] = &[
    Fence { krate: "lapin", rooms: &["bus"], in_tests: false },
    Fence { krate: "azure_*", rooms: &["storage", "secrets"], in_tests: false },
    Fence { krate: "oci-client", rooms: &["registry"], in_tests: false },
    Fence { krate: "rmp-serde", rooms: &["messages"], in_tests: false },
    Fence { krate: "prometheus", rooms: &["telemetry"], in_tests: false },
    Fence { krate: "opentelemetry*", rooms: &["telemetry"], in_tests: false },
    Fence { krate: "tracing-opentelemetry", rooms: &["telemetry"], in_tests: false },
    Fence {
        krate: "reqwest",
        rooms: &["registry", "storage", "secrets", "control-plane", "cli", "rig", "tests"],
        in_tests: true,
    },
    Fence { krate: "sqlx", rooms: &["control-plane"], in_tests: false },
    Fence { krate: "utoipa", rooms: &["api", "control-plane"], in_tests: false },
    Fence {
        krate: "anyhow",
        rooms: &["exporter", "blob-copier", "importer", "control-plane", "cli", "rig", "tests"],
        in_tests: true,
    },
];

/// What is never compiled, and why not.
pub(crate) const BANNED: &[(&str, &str)] = &[
    ("ring", "one TLS provider: aws-lc-rs"),
    ("openssl-sys", "one TLS provider: aws-lc-rs"),
    ("native-tls", "one TLS provider: aws-lc-rs"),
    ("tokio-tar", "advisories without a fix"),
    ("azure_storage_blobs", "abandoned; its successor is azure_storage_blob"),
    ("azure_core v0.", "abandoned; its successor is 1.x"),
    ("backoff", "unmaintained; backon"),
    ("bincode", "unmaintained; MessagePack crosses the broker"),
    ("serde_yml", "unsound and archived"),
];

/// Crates of which one version is compiled: two would be a second stack.
pub(crate) const SINGLE: &[&str] = &["reqwest", "hyper", "rustls"];

/// A diagram without the arrows that follow from others, and the two tables in full.
pub(crate) fn drawn_map() -> String {
    let allowed: BTreeMap<&str, &[&str]> = MAP.iter().copied().collect();
    let mut text = String::from("```mermaid\nflowchart TD\n");
    for (package, rooms) in MAP {
        let through = |room: &&&str| rooms.iter().any(|other| allowed[other].contains(*room));
        for room in rooms.iter().filter(|room| !through(room)) {
            text += &format!("    {package} --> {room}\n");
        }
    }
    text += "```\n\n| package | may depend on |\n| --- | --- |\n";
    for (package, rooms) in MAP {
        text += &format!("| `{package}` | {} |\n", listed(rooms));
    }
    text += "\n| crate | only in |\n| --- | --- |\n";
    for Fence { krate, rooms, in_tests } in FENCES {
        let tests = if *in_tests { ", and tests" } else { "" };
        text += &format!("| `{krate}` | {}{tests} |\n", listed(rooms));
    }
    text
}

fn listed(rooms: &[&str]) -> String {
    match rooms {
        [] => "nothing of ours".to_owned(),
        rooms => rooms.iter().map(|room| format!("`{room}`")).collect::<Vec<_>>().join(", "),
    }
}
