//! Options that several commands have.

use std::path::PathBuf;

use clap::Args;
use transship_model::{ArtifactReference, ExportOptions, RenameRule, Repository};

/// The artifacts.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReferenceArgs {
    /// Artifacts: repository:tag or repository@sha256:…, without the registry
    #[arg(value_name = "REF")]
    pub(crate) references: Vec<String>,
    /// A file with more artifacts, one a line; - is standard input, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) artifacts_file: Option<PathBuf>,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReachArgs {
    /// Reach this registry over plain HTTP; one on this machine needs no such word [repeatable]
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Let a registry send its credentials to this host too, where its tokens or uploads are; .DOMAIN is every host
    /// below it [repeatable]
    #[arg(long = "allow-host", value_name = "HOST[:PORT]")]
    pub(crate) allowed: Vec<String>,
}

/// Options of an export.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportOptionArgs {
    /// Replace a blob of this name that another command or tool wrote
    #[arg(long)]
    pub(crate) overwrite_blobs: bool,
    /// Artifacts in each part at most; a run of more is split into NAME-0001-of-0002 and so on
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u16).range(1..=250))]
    pub(crate) part_size: u16,
}

impl ExportOptionArgs {
    /// As the stages know them.
    pub(crate) fn options(&self, continue_on_errors: bool) -> ExportOptions {
        ExportOptions { overwrite_blobs: self.overwrite_blobs, continue_on_errors }
    }
}

/// Options of an import.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportOptionArgs {
    /// Import repository FROM, and those below it, as TO; the first rule that fits decides [repeatable]
    #[arg(long, value_name = "FROM=TO", value_parser = rename_rule)]
    pub(crate) rename: Vec<RenameRule>,
    /// Move tags that point to another digest
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    /// Delete the bundle once all of it is imported
    #[arg(long)]
    pub(crate) delete_source_blob: bool,
    /// Look for content in this repository of the target too, and mount it from there [repeatable]
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) mount_from: Vec<Repository>,
    /// The name of the artifact of a bundle that holds exactly one
    #[arg(long = "as", value_name = "REF", conflicts_with = "rename")]
    pub(crate) name_as: Option<ArtifactReference>,
}

fn rename_rule(text: &str) -> Result<RenameRule, String> {
    let (from, to) = text.split_once('=').ok_or("expected FROM=TO")?;
    if from.is_empty() && to.is_empty() {
        return Err("a rule needs FROM or TO".to_owned());
    }
    Ok(RenameRule { from: from.to_owned(), to: to.to_owned() })
}
