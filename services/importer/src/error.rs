//! What can go wrong with an import beside storage and registry, and what to do about it.

use transship_model::{
    ArtifactReference, BlobName, Class, Code, ContainerUrl, Digest, Failure, ManifestError, PipelineName,
    RegistryName, RenameError, Repository,
};

/// Why a bundle, or one of its artifacts, cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The work names a pipeline that is not configured.
    #[error("the importer has no pipeline {0}")]
    UnknownPipeline(PipelineName),
    /// The pipeline names a registry that is not configured.
    #[error("pipeline {pipeline} imports into registry {registry}, which the importer does not have")]
    UnknownRegistry {
        /// The pipeline.
        pipeline: PipelineName,
        /// The registry.
        registry: RegistryName,
    },
    /// The work names another container than the pipeline.
    #[error("pipeline {pipeline} imports from {expected}, and the work names {found}")]
    OtherContainer {
        /// The pipeline.
        pipeline: PipelineName,
        /// The pipeline's container.
        expected: ContainerUrl,
        /// The container of the work.
        found: ContainerUrl,
    },
    /// The blob is another one than the one that was announced.
    #[error("blob {blob} in {container} changed since its import was requested")]
    BlobChanged {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
    },
    /// The blob is not a bundle and not an OCI archive.
    #[error("blob {blob} in {container} cannot be imported: {reason}")]
    NotABundle {
        /// The container.
        container: ContainerUrl,
        /// The blob.
        blob: BlobName,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to import.
    #[error("the bundle holds no artifact")]
    Empty,
    /// The bundle has more manifests than are read.
    #[error("the bundle holds more than {0} manifests")]
    TooManyManifests(usize),
    /// Manifests are nested deeper than is read.
    #[error("manifest {digest} nests deeper than {limit} manifests")]
    TooDeep {
        /// The outermost manifest.
        digest: Digest,
        /// The bound.
        limit: u32,
    },
    /// An artifact of a foreign archive has no name that a registry could use.
    #[error("the archive names {digest} {}, which is not repository:tag", shown(.name.as_ref()))]
    NameMissing {
        /// The artifact.
        digest: Digest,
        /// What the archive calls it.
        name: Option<String>,
    },
    /// One name was given for several artifacts.
    #[error("the bundle holds {count} artifacts, and {name} names one")]
    NameForSeveral {
        /// The name.
        name: ArtifactReference,
        /// How many artifacts there are.
        count: usize,
    },
    /// The given name is the digest of something else.
    #[error("the bundle holds {digest}, and {name} names something else")]
    NameOfAnother {
        /// The name.
        name: ArtifactReference,
        /// The artifact of the bundle.
        digest: Digest,
    },
    /// A rule makes a name that is none.
    #[error(transparent)]
    Rename(#[from] RenameError),
    /// Two artifacts would get the same name.
    #[error("{first} and {second} would both be imported as {name}")]
    Collision {
        /// One of them.
        first: Digest,
        /// The other.
        second: Digest,
        /// The name.
        name: ArtifactReference,
    },
    /// The tag exists with another digest.
    #[error("{host} has {name} with digest {existing}, and the bundle has {wanted}")]
    TagExists {
        /// The registry.
        host: String,
        /// The name at the target.
        name: ArtifactReference,
        /// What the tag points to.
        existing: Digest,
        /// What it should point to.
        wanted: Digest,
    },
    /// Bytes of the bundle do not have the digest that names them.
    #[error("{what} in {blob} has other bytes: expected {expected}, got {actual}")]
    DigestMismatch {
        /// `manifest` or `blob`.
        what: &'static str,
        /// The bundle.
        blob: BlobName,
        /// The digest that names them.
        expected: Digest,
        /// The digest that they have.
        actual: Digest,
    },
    /// A manifest cannot be carried.
    #[error("manifest {digest}: {source}")]
    ManifestInvalid {
        /// The manifest.
        digest: Digest,
        /// Why.
        source: ManifestError,
    },
    /// Content is neither in the bundle nor at the target.
    #[error("{digest} is not in the bundle ({}), and {repository} at the target does not have it", .why.text())]
    Missing {
        /// The blob or manifest.
        digest: Digest,
        /// The repository at the target.
        repository: Repository,
        /// Why the bundle does not have it.
        why: WhyMissing,
    },
}

/// Why a bundle does not have something that its manifests name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyMissing {
    /// An earlier part of the run holds it.
    InPart(u32),
    /// The target had acknowledged that it has it.
    Acknowledged,
    /// The source could not give it.
    Failed,
    /// Nothing says why.
    Unsaid,
}

impl WhyMissing {
    fn text(self) -> String {
        match self {
            Self::InPart(part) => format!("part {part} of the run holds it"),
            Self::Acknowledged => "the target had acknowledged it".to_owned(),
            Self::Failed => "it could not be read at the source".to_owned(),
            Self::Unsaid => "its archive lacks it".to_owned(),
        }
    }
}

fn shown(name: Option<&String>) -> String {
    name.map_or_else(
        || "nothing".to_owned(),
        |name| format!("{:?}", name.chars().take(200).collect::<String>()),
    )
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        use ImportError as E;
        let message = error.to_string();
        let (class, code, hint) = match error {
            E::UnknownPipeline(name) => {
                (Class::Permanent, Code::ConfigurationInvalid, add("pipelines", name.as_str()))
            }
            E::UnknownRegistry { registry, .. } => {
                (Class::Permanent, Code::ConfigurationInvalid, add("registries", registry.as_str()))
            }
            E::OtherContainer { .. } => (
                Class::Permanent,
                Code::ConfigurationInvalid,
                Some(
                    "a pipeline imports from its own container only: send the work to the pipeline of that \
                      container, or correct the route"
                        .to_owned(),
                ),
            ),
            E::BlobChanged { .. } => (
                Class::Permanent,
                Code::SourceChanged,
                Some("start the import again to import what is there now".to_owned()),
            ),
            E::NotABundle { .. } => (
                Class::Permanent,
                Code::BundleInvalid,
                Some(
                    "an import takes bundles of transship, and OCI archives as skopeo and others write them"
                        .to_owned(),
                ),
            ),
            E::Empty => (Class::Permanent, Code::BundleInvalid, None),
            E::TooManyManifests(_) | E::TooDeep { .. } => (
                Class::Permanent,
                Code::LimitExceeded,
                Some("split the run into smaller ones, or raise the limit".to_owned()),
            ),
            E::NameMissing { .. } => (
                Class::Permanent,
                Code::BundleInvalid,
                Some(
                    "say what it is to be called, with `--as repository:tag` or `name_as` of the pipeline"
                        .to_owned(),
                ),
            ),
            E::NameForSeveral { .. } => (
                Class::Permanent,
                Code::ConfigurationInvalid,
                Some("leave the name out, and use rename rules".to_owned()),
            ),
            E::NameOfAnother { .. } => (
                Class::Permanent,
                Code::ConfigurationInvalid,
                Some("name it by a tag, or by its own digest".to_owned()),
            ),
            E::Rename(_) | E::Collision { .. } => (
                Class::Permanent,
                Code::ConfigurationInvalid,
                Some("correct the rename rules of the pipeline".to_owned()),
            ),
            E::TagExists { .. } => (
                Class::Permanent,
                Code::TagExists,
                Some("set OverwriteTags to move the tag, or import under another name".to_owned()),
            ),
            E::DigestMismatch { .. } => (
                Class::Permanent,
                Code::DigestMismatch,
                Some("the bundle was damaged on its way: copy it again, or export it again".to_owned()),
            ),
            E::ManifestInvalid { .. } => (Class::Permanent, Code::ManifestInvalid, None),
            E::Missing { why, .. } => {
                let (class, hint) = missing(why);
                (class, Code::ContentNotFound, Some(hint.to_owned()))
            }
        };
        Self { class, code, message, hint }
    }
}

fn add(table: &str, name: &str) -> Option<String> {
    Some(format!("add [{table}.{name}] to the importer's configuration, or correct the name"))
}

/// A part that holds the content may be on its way, so that is worth waiting for.
fn missing(why: WhyMissing) -> (Class, &'static str) {
    match why {
        WhyMissing::InPart(_) => (Class::TRANSIENT, "import that part of the run too; this one then goes on"),
        WhyMissing::Acknowledged => {
            (Class::Permanent, "the target has lost it since: export it again in full")
        }
        WhyMissing::Failed | WhyMissing::Unsaid => (Class::Permanent, "export the artifact again"),
    }
}
