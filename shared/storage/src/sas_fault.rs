//! What of a SAS token does not fit what it is used for, and which token would.

use jiff::Timestamp;
use transship_model::Code;

/// Why a SAS token that is valid otherwise cannot be used for a container (Azure Storage, "Create an account
/// SAS", "Create a service SAS").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SasFault {
    /// `st` is not reached.
    #[error("the SAS token is valid from {start} on")]
    NotYetValid {
        /// The field `st`.
        start: Timestamp,
    },
    /// `spr=https`, and the container's address is plain http.
    #[error("the SAS token is for https only")]
    HttpsOnly,
    /// An account SAS for queues, tables or files.
    #[error("the SAS token is not for the blob service (`ss` has no b)")]
    Service,
    /// An account SAS that does not cover containers, or the blobs in them.
    #[error("the SAS token does not cover this kind of resource (`srt` has no {missing})")]
    ResourceType {
        /// The letter: `c` to list, `o` for blobs.
        missing: char,
    },
    /// A service SAS for something smaller than a container.
    #[error("the SAS token is for one {kind}, not for the container (`sr` is {resource})")]
    Resource {
        /// The field `sr`.
        resource: String,
        /// What that stands for.
        kind: &'static str,
    },
}

impl SasFault {
    /// Which token would fit.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::NotYetValid { .. } => {
                "issue a SAS token without a start time (`st`), since clocks differ, or wait until then"
            }
            Self::HttpsOnly => "use the https address of the container",
            Self::Service => {
                "issue a SAS token of the container (sr=c), or an account SAS whose services include blob (ss=b)"
            }
            Self::ResourceType { .. } => {
                "issue a SAS token of the container (sr=c), or an account SAS for containers and objects (srt=co)"
            }
            Self::Resource { .. } => "issue a SAS token of the container (sr=c)",
        };
        format!("{hint}, and put it into the secret")
    }

    /// The code of a failure that it causes.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotYetValid { .. } | Self::HttpsOnly => Code::StorageForbidden,
            Self::Service | Self::ResourceType { .. } | Self::Resource { .. } => Code::SasPermission,
        }
    }
}

/// What `sr` stands for, where that is not a container.
pub(crate) fn kind_of(resource: &str) -> &'static str {
    match resource {
        "b" => "blob",
        "bs" => "snapshot of a blob",
        "bv" => "version of a blob",
        "d" => "directory",
        "f" => "file",
        "s" => "file share",
        _ => "resource of another kind",
    }
}
