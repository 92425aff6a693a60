//! What a schedule selects. Pure: the same schedule and the same names give the same answer.

use regex::{Regex, RegexBuilder};
use semver::{Version, VersionReq};
use transship_api::{Schedule, TagSelector};
use transship_model::{BlobName, Repository, Tag};

use super::glob::Glob;
use super::template::{Filling, fill};

/// The most patterns of one list.
const MAX_PATTERNS: usize = 1_000;
/// The longest regular expression and range, in bytes.
const MAX_EXPRESSION: usize = 1_000;
/// The largest compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// The shortest and longest interval, in seconds.
const INTERVAL: std::ops::RangeInclusive<u32> = 10..=7 * 24 * 60 * 60;
/// The longest time of gathering, in seconds.
const MAX_BATCH_SECONDS: u32 = 600;

/// A schedule that was checked, ready to select.
#[derive(Debug, Clone)]
pub struct Selector {
    repositories: Vec<Glob>,
    tags: Rules,
}

#[derive(Debug, Clone)]
struct Rules {
    globs: Vec<Glob>,
    regex: Option<Regex>,
    semver: Option<VersionReq>,
    exclude: Vec<Glob>,
}

/// The faults of a schedule: the property, as in `tags.globs[2]`, and what to change. Empty where there are none.
pub fn check(schedule: &Schedule) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    compile(schedule, &mut faults);
    let mut fault = |property: &str, problem: String| faults.push((property.to_owned(), problem));
    match schedule.interval_seconds {
        Some(seconds) if !INTERVAL.contains(&seconds) => fault(
            "intervalSeconds",
            format!("{seconds} is not between {} and {} seconds", INTERVAL.start(), INTERVAL.end()),
        ),
        None if !schedule.notifications => fault(
            "intervalSeconds",
            "without an interval and without notifications nothing is ever exported: give one of them"
                .to_owned(),
        ),
        _ => {}
    }
    if schedule.batch_seconds > MAX_BATCH_SECONDS {
        fault("batchSeconds", format!("at most {MAX_BATCH_SECONDS} seconds are gathered"));
    }
    if let Some(template) = &schedule.blob_name {
        let filled = fill(template, &Filling { pipeline: "pipeline", now_ms: 0, generation: 1 });
        if let Err(problem) =
            filled.and_then(|name| name.parse::<BlobName>().map_err(|error| error.to_string()))
        {
            fault("blobName", problem);
        }
    }
    faults
}

fn compile(schedule: &Schedule, faults: &mut Vec<(String, String)>) -> Option<Selector> {
    let before = faults.len();
    if schedule.repositories.is_empty() {
        let problem = "name at least one repository or pattern; ** selects all".to_owned();
        faults.push(("repositories".to_owned(), problem));
    }
    let repositories = globs("repositories", &schedule.repositories, Glob::repositories, faults);
    let TagSelector { globs: tags, regex, semver, exclude } = &schedule.tags;
    let tags = globs("tags.globs", tags, Glob::tags, faults);
    let exclude = globs("tags.exclude", exclude, Glob::tags, faults);
    let mut keep = |property: &str, problem: String| faults.push((property.to_owned(), problem));
    let regex = regex
        .as_deref()
        .and_then(|text| whole_match(text).map_err(|problem| keep("tags.regex", problem)).ok());
    let semver =
        semver.as_deref().and_then(|text| range(text).map_err(|problem| keep("tags.semver", problem)).ok());
    let rules = Rules { globs: tags, regex, semver, exclude };
    (faults.len() == before).then_some(Selector { repositories, tags: rules })
}

fn globs(
    property: &str,
    patterns: &[String],
    compile: fn(&str) -> Result<Glob, String>,
    faults: &mut Vec<(String, String)>,
) -> Vec<Glob> {
    if patterns.len() > MAX_PATTERNS {
        faults
            .push((property.to_owned(), format!("{} patterns are more than {MAX_PATTERNS}", patterns.len())));
        return Vec::new();
    }
    let mut compiled = Vec::with_capacity(patterns.len());
    for (index, pattern) in patterns.iter().enumerate() {
        match compile(pattern) {
            Ok(glob) => compiled.push(glob),
            Err(problem) => faults.push((format!("{property}[{index}]"), problem)),
        }
    }
    compiled
}

/// A regular expression that must match a whole tag. The engine is linear in the tag; its size is bounded here.
fn whole_match(text: &str) -> Result<Regex, String> {
    if text.len() > MAX_EXPRESSION {
        return Err(format!("a regular expression has at most {MAX_EXPRESSION} characters"));
    }
    // Compiled as it stands first, so that parentheses cannot reach over the anchors around it.
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
    };
    match build(text).and_then(|_| build(&format!(r"\A(?:{text})\z"))) {
        Ok(regex) => Ok(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err("the regular expression is too large: simplify it".to_owned())
        }
        Err(_) => {
            Err("not a regular expression (RE2 syntax, without look-around and back-references)".to_owned())
        }
    }
}

fn range(text: &str) -> Result<VersionReq, String> {
    if text.len() > MAX_EXPRESSION {
        return Err(format!("a range of versions has at most {MAX_EXPRESSION} characters"));
    }
    text.parse().map_err(|error| format!("not a range of semantic versions, such as \">=1.4, <2\": {error}"))
}

impl Selector {
    /// The selector of a schedule that was checked when it was taken; `None` where an older version took what this
    /// one refuses.
    pub fn new(schedule: &Schedule) -> Option<Self> {
        compile(schedule, &mut Vec::new())
    }

    /// The repositories that are selected by their names, where no pattern has a wildcard: then nobody need ask the
    /// registry for a list of all.
    pub fn named_repositories(&self) -> Option<Vec<Repository>> {
        let literal = |glob: &Glob| glob.literal().map(|name| name.parse::<Repository>());
        let names: Option<Vec<_>> = self.repositories.iter().map(literal).collect();
        // A name that breaks the grammar is no repository of any registry.
        names.map(|names| names.into_iter().filter_map(Result::ok).collect())
    }

    /// Whether the repository is selected.
    pub fn selects_repository(&self, repository: &Repository) -> bool {
        self.repositories.iter().any(|glob| glob.matches(repository.as_str()))
    }

    /// Whether the tag is selected: by one of the rules that are given, or where there is none; by no rule of
    /// `exclude`; and not where it travels with what it belongs to.
    pub fn selects_tag(&self, tag: &Tag) -> bool {
        let Rules { globs, regex, semver, exclude } = &self.tags;
        let text = tag.as_str();
        let by_rule = (globs.is_empty() && regex.is_none() && semver.is_none())
            || globs.iter().any(|glob| glob.matches(text))
            || regex.as_ref().is_some_and(|regex| regex.is_match(text))
            || semver
                .as_ref()
                .is_some_and(|range| version(text).is_some_and(|version| range.matches(&version)));
        by_rule && !exclude.iter().any(|glob| glob.matches(text)) && !travels_with_its_subject(tag)
    }
}

/// The semantic version that a tag stands for; a `v` before it is ignored.
fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix(['v', 'V']).unwrap_or(tag)).ok()
}

/// Whether a tag names referrers or a signature of another manifest: the fallback tag of the distribution
/// specification (`sha256-HEX`), and cosign's with `.sig`, `.att` or `.sbom` behind it. The export of the subject
/// carries them, so they start no run of their own.
pub fn travels_with_its_subject(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let hex = [".sig", ".att", ".sbom"].into_iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
    let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    matches!(algorithm, "sha256" | "sha512") && hex.len() == 64 && is_hex
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
