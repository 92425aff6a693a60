//! Between columns and types. Only 64-bit numbers, text and bytes are stored: what both databases have.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, ColumnIndex, Decode, Row, Type};

use super::error::StoreError;

/// One column.
pub(super) fn get<'r, T>(row: &'r AnyRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Any> + Type<Any>,
    &'static str: ColumnIndex<AnyRow>,
{
    row.try_get(column).map_err(|error| StoreError::Corrupt { what: column, problem: error.to_string() })
}

/// One column of text that is something else.
pub(super) fn parsed<T>(row: &AnyRow, column: &'static str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    get::<String>(row, column)?.parse().map_err(|error: T::Err| corrupt(column, error))
}

/// One column of JSON.
pub(super) fn from_json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(&get::<String>(row, column)?).map_err(|error| corrupt(column, error))
}

/// A value as JSON.
pub(super) fn to_json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(what, error))
}

/// One column of a number that is not negative.
pub(super) fn unsigned<T: TryFrom<i64>>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    let number: i64 = get(row, column)?;
    T::try_from(number).map_err(|_| corrupt(column, format!("{number} is out of range")))
}

/// A number as it is stored.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn corrupt(what: &'static str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what, problem: problem.to_string() }
}
