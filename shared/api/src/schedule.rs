//! Schedules: what an export pipeline exports by itself, as tags appear and move.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lenient;

/// What is exported without a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Repositories, by name or glob: `*` stands for any run of characters except `/`, `**` for any at all.
    pub repositories: Vec<String>,
    /// Which of their tags.
    #[serde(default)]
    pub tags: TagSelector,
    /// How often the registry is asked, in seconds, at least 10. Absent where only notifications count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
    /// Whether push notifications of the registry start a run at once. Default true.
    #[serde(default = "yes")]
    pub notifications: bool,
    /// How long to gather what comes together, in seconds, before a run starts. Default 2.
    #[serde(default = "two")]
    pub batch_seconds: u32,
    /// How bundles are named: `{pipeline}`, `{date}`, `{time}`, `{generation}` are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub blob_name: Option<String>,
}

fn yes() -> bool {
    true
}

fn two() -> u32 {
    2
}

/// Tags, by rules: a tag is selected where one of the rules that are given selects it and none of `exclude`
/// does. Without any rule every tag is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagSelector {
    /// Globs, in which `*` stands for any run of characters and `?` for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::or_default")]
    pub globs: Vec<String>,
    /// A regular expression that must match the whole tag.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub regex: Option<String>,
    /// A range of semantic versions, such as `>=1.4, <2`; a `v` before the version is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub semver: Option<String>,
    /// Globs of tags that are left out whatever else selects them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::or_default")]
    pub exclude: Vec<String>,
}
