//! Why an evaluation stops.

use transship_api::ErrorDetail;

/// Why an evaluation stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The template or its parameters are wrong.
    Invalid {
        /// Where, such as `resources[1].properties.target.uri`; built from the inside out.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// It refers to a resource (in lower case) that is not known yet.
    Needs(String),
}

/// The result of an evaluation.
pub(super) type Evaluated<T> = Result<T, Fault>;

impl Fault {
    /// The template is wrong here.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { at: String::new(), message: message.into() }
    }

    /// The same fault, seen from the property or element `step` that holds it.
    #[must_use]
    pub(super) fn under(self, step: &str) -> Self {
        match self {
            Self::Invalid { at, message } => {
                let joint = if at.is_empty() || at.starts_with('[') { "" } else { "." };
                Self::Invalid { at: format!("{step}{joint}{at}"), message }
            }
            needs @ Self::Needs(_) => needs,
        }
    }

    /// As Azure Resource Manager says it.
    pub(super) fn detail(self) -> ErrorDetail {
        let (at, message) = match self {
            Self::Invalid { at, message } => (at, message),
            Self::Needs(id) => (
                String::new(),
                format!(
                    "reference('{id}') is not allowed where names, types, conditions and the like are said"
                ),
            ),
        };
        let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
        ErrorDetail {
            code: "InvalidTemplate".to_owned(),
            message: format!("The template is not valid{place}: {message}."),
            target: Some(at).filter(|at| !at.is_empty()),
            details: Vec::new(),
        }
    }
}
