//! Lists, and the status of long-running operations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ErrorDetail;

/// One page of a list, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The resources; present even where there are none.
    pub value: Vec<T>,
    /// The absolute address of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// The status of a long-running operation (the answer of `Azure-AsyncOperation`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// The operation's resource id.
    pub id: String,
    /// The operation's name.
    pub name: String,
    /// `InProgress`, `Succeeded` or `Failed`.
    pub status: String,
    /// When it began (RFC 3339).
    pub start_time: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// From 0 to 100.
    pub percent_complete: u8,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}
