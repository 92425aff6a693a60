//! The rules of the house as tests: which room may know which, which outside crate is fenced into which room,
//! what is never built, and what every file looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

#[path = "architecture/map.rs"]
mod map;

use map::{BANNED, FENCES, MAP, SINGLE, drawn_map};

const MAP_BEGIN: &str = "<!-- map:begin -->";
const MAP_END: &str = "<!-- map:end -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root()).output()?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// One line of a package's `[dependencies]`, `[build-dependencies]` or `[dev-dependencies]`.
struct Dependency {
    name: String,
    only_in_tests: bool,
}

/// Package → its direct dependencies; the prefix `transship-` is cut off our own names.
fn packages() -> Result<BTreeMap<String, Vec<Dependency>>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    let text = |value: &Value| value.as_str().map(short).context("a name");
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let mut dependencies = Vec::new();
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let only_in_tests = dependency["kind"] == "dev";
            dependencies.push(Dependency { name: text(&dependency["name"])?, only_in_tests });
        }
        packages.insert(text(&package["name"])?, dependencies);
    }
    Ok(packages)
}

fn short(name: &str) -> String {
    name.strip_prefix("transship-").unwrap_or(name).to_owned()
}

/// The files of the project, without what is built, installed or kept by git.
fn files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let skipped = ["target", ".git", ".local", "node_modules"].iter().any(|skip| name == *skip);
            match entry.file_type()? {
                kind if kind.is_dir() && !skipped => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn rust_files() -> Result<Vec<PathBuf>> {
    Ok(files()?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// One assertion for all findings of a rule, so that a person sees each of them at once.
fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_package_is_on_the_map_and_the_map_has_no_circle() -> Result<()> {
    let existing: BTreeSet<String> = packages()?.into_keys().collect();
    let mapped: BTreeSet<String> = MAP.iter().map(|(package, _)| (*package).to_owned()).collect();
    assert_eq!(existing, mapped, "the packages of the workspace and the lines of the map");
    let mut above = BTreeSet::new();
    for (package, allowed) in MAP {
        assert!(allowed.iter().all(|name| above.contains(name)), "{package} names a package below it");
        above.insert(*package);
    }
    Ok(())
}

#[test]
fn no_package_knows_a_room_that_the_map_does_not_give_it() -> Result<()> {
    let packages = packages()?;
    let mut findings = Vec::new();
    for (package, allowed) in MAP {
        for dependency in packages.get(*package).into_iter().flatten() {
            let name = dependency.name.as_str();
            let permitted = allowed.contains(&name) || (dependency.only_in_tests && name == "rig");
            if packages.contains_key(name) && !permitted {
                findings.push(format!("{package} → {name}"));
            }
        }
    }
    none("arrows that the map does not have", &findings);
    Ok(())
}

#[test]
fn a_fenced_crate_stays_in_its_room() -> Result<()> {
    let mut findings = Vec::new();
    for (package, dependencies) in packages()? {
        for dependency in dependencies {
            for fence in FENCES.iter().filter(|fence| matches(fence.krate, &dependency.name)) {
                let permitted =
                    fence.rooms.contains(&package.as_str()) || (fence.in_tests && dependency.only_in_tests);
                if !permitted {
                    findings.push(format!(
                        "{package} uses {}, which belongs to {:?}",
                        dependency.name, fence.rooms
                    ));
                }
            }
        }
    }
    none("crates outside their fence", &findings);
    Ok(())
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// The lock file also names what no feature ever turns on (ring is such a one), so this asks for the tree.
fn tree() -> Result<String> {
    let tree = cargo(&["tree", "--workspace", "--all-features", "--edges", "all", "--prefix", "none"])?;
    ensure!(tree.lines().any(|line| line.starts_with("tokio v")), "the tree names what is built");
    Ok(tree)
}

#[test]
fn what_is_banned_is_never_built() -> Result<()> {
    let mut findings = BTreeSet::new();
    for line in tree()?.lines() {
        for (banned, reason) in BANNED {
            let end = if banned.contains(' ') { "" } else { " v" };
            if line.starts_with(&format!("{banned}{end}")) {
                findings.insert(format!("{line}: {reason}"));
            }
        }
    }
    none("banned crates", &findings.into_iter().collect::<Vec<_>>());
    Ok(())
}

#[test]
fn there_is_one_http_stack_and_one_tls_stack() -> Result<()> {
    let tree = tree()?;
    for krate in SINGLE {
        let of =
            |line: &str| Some(line.strip_prefix(krate)?.strip_prefix(" v")?.split(' ').next()?.to_owned());
        let versions: BTreeSet<String> = tree.lines().filter_map(of).collect();
        assert_eq!(versions.len(), 1, "{krate} {versions:?}");
    }
    Ok(())
}

#[test]
fn nothing_comes_from_a_git_repository_or_a_second_registry() -> Result<()> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])?)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let sources: BTreeSet<&str> = packages.iter().filter_map(|package| package["source"].as_str()).collect();
    assert!(
        sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")),
        "{sources:?}"
    );
    Ok(())
}

/// For machines without cargo-deny these tests stand in for it, so they must not ban less.
#[test]
fn the_tables_ban_what_the_settings_of_cargo_deny_ban() -> Result<()> {
    let text = std::fs::read_to_string(root().join("deny.toml"))?;
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("{ crate = \"")?.split('"').next());
    let denied: BTreeSet<&str> = names.map(|name| name.split('@').next().unwrap_or(name)).collect();
    let banned = BANNED.iter().map(|(name, _)| name.split(' ').next().unwrap_or(name));
    let tested: BTreeSet<&str> = banned.chain(SINGLE.iter().copied()).collect();
    assert_eq!(tested, denied);
    Ok(())
}

#[test]
fn every_library_says_what_it_owns_may_know_and_never_knows() -> Result<()> {
    let mut findings = Vec::new();
    for path in rust_files()?.into_iter().filter(|path| path.ends_with("src/lib.rs")) {
        let text = std::fs::read_to_string(&path)?;
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let places = ["**Owns**", "**May know**", "**Never knows**"].map(|words| head.find(words));
        if !text.starts_with("//! **Owns**") || places.contains(&None) || !places.is_sorted() {
            findings.push(shown(&path));
        }
    }
    none("libraries that do not begin with Owns, May know, Never knows", &findings);
    Ok(())
}

#[test]
fn no_source_file_is_longer_than_500_lines() -> Result<()> {
    let mut findings = Vec::new();
    for path in rust_files()? {
        let lines = std::fs::read_to_string(&path)?.lines().count();
        if lines > 500 {
            findings.push(format!("{}: {lines}", shown(&path)));
        }
    }
    none("files that are too long", &findings);
    Ok(())
}

#[test]
fn a_service_is_killed_at_every_failpoint_that_there_is() -> Result<()> {
    let (mut failpoints, mut kills) = (BTreeSet::new(), String::new());
    for path in rust_files()? {
        let (text, shown) = (std::fs::read_to_string(&path)?, shown(&path));
        // A control plane that dies in the same process, at what no stack of processes comes to by itself.
        if shown.starts_with("tests/tests/kills") || shown == "services/control-plane/tests/failpoints.rs" {
            kills += &text;
        } else if shown.starts_with("services/") || shown.starts_with("shared/") {
            let names = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            failpoints.extend(names.map(str::to_owned));
        }
    }
    assert!(failpoints.len() > 10, "the failpoints are found: {failpoints:?}");
    let is_named =
        |name: &String| kills.contains(&format!("\"{name}\"")) || kills.contains(&format!("\"{name}:"));
    let missing: Vec<String> = failpoints.into_iter().filter(|name| !is_named(name)).collect();
    none("failpoints at which no test kills a service", &missing);
    Ok(())
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() -> Result<()> {
    let mut findings = Vec::new();
    for path in files()?.into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let text = std::fs::read_to_string(&path)?;
        if !text.contains("[lints]\nworkspace = true") && !text.contains("[workspace.lints.rust]") {
            findings.push(shown(&path));
        }
    }
    none("packages with lints of their own", &findings);
    Ok(())
}

#[test]
fn nothing_is_left_to_be_done() -> Result<()> {
    // In two pieces, so that this file does not find itself.
    let marks =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut findings = Vec::new();
    for path in rust_files()? {
        let text = std::fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                findings.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    none("unfinished code", &findings);
    Ok(())
}

/// What a secret begins with, and how many characters of one must follow to look real.
const SECRET_SHAPES: &[(&str, usize)] = &[
    ("sig=", 43),
    ("AccountKey=", 40),
    ("PRIVATE KEY-----\n", 40),
    ("ghp_", 30),
    ("github_pat_", 30),
    ("AKIA", 16),
    ("eyJhbGciOi", 60),
    // The key of the emulator's well-known account: harmless, and a habit that is not.
    ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq", 0),
];

#[test]
fn no_file_holds_what_looks_like_a_secret() -> Result<()> {
    let of_a_secret = |c: &char| c.is_ascii_alphanumeric() || "+/=%-_.".contains(*c);
    let mut findings = Vec::new();
    // This file names the shapes.
    for path in files()?.into_iter().filter(|path| shown(path) != "tests/tests/architecture.rs") {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (start, length) in SECRET_SHAPES {
            for (at, _) in text.match_indices(start) {
                if text[at + start.len()..].chars().take_while(of_a_secret).count() >= *length {
                    let line = text[..at].lines().count();
                    findings.push(format!("{}:{line}: {}…", shown(&path), start.trim_end()));
                }
            }
        }
    }
    none("strings that look like secrets", &findings);
    Ok(())
}

#[test]
fn no_lock_file_of_npm_names_the_address_of_a_registry() -> Result<()> {
    let mut seen = 0;
    let mut findings = Vec::new();
    for path in files()?.into_iter().filter(|path| path.ends_with("package-lock.json")) {
        seen += 1;
        let lock: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        for (name, package) in lock["packages"].as_object().context("packages")? {
            if package.get("resolved").is_some() {
                findings.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    assert!(seen > 0, "the rig has a lock file");
    none("packages with an address", &findings);
    Ok(())
}

/// `UPDATE_MAP=1 cargo test -p transship-tests --test architecture` writes the block anew.
#[test]
fn the_map_in_the_architecture_document_is_the_map() -> Result<()> {
    let path = root().join("ARCHITECTURE.md");
    let block = format!("{MAP_BEGIN}\n{}{MAP_END}", drawn_map());
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let begin = text.find(MAP_BEGIN);
    let end = text.find(MAP_END).map(|at| at + MAP_END.len());
    if std::env::var_os("UPDATE_MAP").is_some() {
        let new = match begin.zip(end) {
            Some((begin, end)) => format!("{}{block}{}", &text[..begin], &text[end..]),
            None if text.is_empty() => format!("{block}\n"),
            None => format!("{text}\n{block}\n"),
        };
        return Ok(std::fs::write(path, new)?);
    }
    let (begin, end) = begin.zip(end).context("ARCHITECTURE.md has no map: run with UPDATE_MAP=1")?;
    assert_eq!(&text[begin..end], block, "the map is out of date: run with UPDATE_MAP=1");
    Ok(())
}
