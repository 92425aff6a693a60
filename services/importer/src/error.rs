//! What can go wrong with an import beside storage and registry, and what to do about it.

use transship_model::{
    ArtifactReference, BlobName, Class, Code, ContainerUrl, Digest, Failure, ManifestError, PipelineName,
    RegistryName, RenameError, Repository, SecretName,
};

/// Why a bundle, or one of its artifacts, cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The work names a pipeline that is not configured.
    #[error("the importer has no pipeline {0}")]
    UnknownPipeline(PipelineName),
    /// The secret that should hold the key of the seal holds something else.
    #[error("secret {0} is not a key: expected 32 bytes in base64")]
    SealKey(SecretName),
    /// The work describes its pipeline itself, and the settings forbid that.
    #[error("the importer has no pipeline {0}, and its settings take none from messages")]
    PipelineOfMessage(PipelineName),
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
    /// The bundle holds other artifacts than the run names.
    #[error("blob {blob} has catalog digest {actual}, and the run names {expected}")]
    OtherCatalog {
        /// The bundle.
        blob: BlobName,
        /// What the run names.
        expected: Digest,
        /// The SHA-256 of the bundle's `index.json`.
        actual: Digest,
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
    /// The manifests of the bundle are larger together than what is read.
    #[error("the manifests of the bundle have more than {0} bytes together")]
    TooManyManifestBytes(u64),
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
        let (class, code) = error.kind();
        Self { class, code, message: error.to_string(), hint: error.hint() }
    }
}

impl ImportError {
    fn kind(&self) -> (Class, Code) {
        use ImportError as E;
        match self {
            E::UnknownPipeline(_)
            | E::PipelineOfMessage(_)
            | E::UnknownRegistry { .. }
            | E::OtherContainer { .. }
            | E::NameForSeveral { .. }
            | E::NameOfAnother { .. }
            | E::Rename(_)
            | E::Collision { .. } => (Class::Permanent, Code::ConfigurationInvalid),
            // Whoever mends the secret need not send the work again.
            E::SealKey(_) => (Class::Parked, Code::ConfigurationInvalid),
            E::BlobChanged { .. } => (Class::Permanent, Code::SourceChanged),
            E::NotABundle { .. } | E::Empty | E::NameMissing { .. } => {
                (Class::Permanent, Code::BundleInvalid)
            }
            E::TooManyManifests(_) | E::TooManyManifestBytes(_) | E::TooDeep { .. } => {
                (Class::Permanent, Code::LimitExceeded)
            }
            E::TagExists { .. } => (Class::Permanent, Code::TagExists),
            E::DigestMismatch { .. } | E::OtherCatalog { .. } => (Class::Permanent, Code::DigestMismatch),
            E::ManifestInvalid { .. } => (Class::Permanent, Code::ManifestInvalid),
            // The part that holds it may be on its way, so that is worth waiting for.
            E::Missing { why: WhyMissing::InPart(_), .. } => (Class::TRANSIENT, Code::ContentNotFound),
            E::Missing { .. } => (Class::Permanent, Code::ContentNotFound),
        }
    }

    fn hint(&self) -> Option<String> {
        use ImportError as E;
        let hint = match self {
            E::UnknownPipeline(name) => return Some(add("pipelines", name.as_str())),
            E::PipelineOfMessage(name) => {
                let add = add("pipelines", name.as_str());
                return Some(format!("{add}; or set pipelines_from_messages in its [import] section"));
            }
            E::UnknownRegistry { registry, .. } => return Some(add("registries", registry.as_str())),
            E::SealKey(_) => {
                "write 32 random bytes in base64, as `openssl rand -base64 32` prints them, into the secret"
            }
            E::OtherContainer { .. } => {
                "a pipeline imports from its own container only: send the work to the pipeline of that container, \
                 or correct the route"
            }
            E::BlobChanged { .. } => "start the import again to import what is there now",
            E::OtherCatalog { .. } => {
                "nothing was imported: bring the bundle that the run means, or correct the run's catalog digest"
            }
            E::NotABundle { .. } => {
                "an import takes bundles of transship, and OCI archives as skopeo and others write them"
            }
            E::TooManyManifests(_) | E::TooManyManifestBytes(_) | E::TooDeep { .. } => {
                "split the run into smaller ones, or raise the limit"
            }
            E::NameMissing { .. } => {
                "say what it is to be called, with `--as repository:tag` or `name_as` of the pipeline"
            }
            E::NameForSeveral { .. } => "leave the name out, and use rename rules",
            E::NameOfAnother { .. } => "name it by a tag, or by its own digest",
            E::Rename(_) | E::Collision { .. } => "correct the rename rules of the pipeline",
            E::TagExists { .. } => "set OverwriteTags to move the tag, or import under another name",
            E::DigestMismatch { .. } => {
                "the bundle was damaged on its way: copy it again, or export it again"
            }
            E::Missing { why, .. } => match why {
                WhyMissing::InPart(_) => "import that part of the run too; this one then goes on",
                WhyMissing::Acknowledged => "the target has lost it since: export it again in full",
                WhyMissing::Failed | WhyMissing::Unsaid => "export the artifact again",
            },
            E::Empty | E::ManifestInvalid { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn add(table: &str, name: &str) -> String {
    format!("add [{table}.{name}] to the importer's configuration, or correct the name")
}

/// The same with one more hint.
pub(crate) fn add_hint(failure: Failure, more: &str) -> Failure {
    let hint = failure.hint.as_deref().map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}"));
    failure.with_hint(hint)
}
