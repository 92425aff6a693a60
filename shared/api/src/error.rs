//! ARM's error body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// A code that programs may compare, such as `ResourceNotFound`.
    pub code: String,
    /// What is wrong and what to change.
    pub message: String,
    /// The property that is wrong, such as `properties.request.artifacts[2]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// More faults of the same request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub details: Vec<ErrorDetail>,
}

impl ErrorBody {
    /// An error without a target.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { error: ErrorDetail { code, message, ..ErrorDetail::default() } }
    }
}
