//! What can go wrong with the state.

use std::path::PathBuf;
use std::sync::Arc;

use transship_model::{Class, Code, Failure};

/// Why the state could not be read or written. It names no URL: that may hold a password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The URL is not one of a database that is known.
    #[error("the database URL is not understood: {0}")]
    Url(String),
    /// The file cannot be made.
    #[error("create the database {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The database was written by a newer transship.
    #[error("the database has schema version {found}, and this process knows versions up to {known}")]
    Newer {
        /// The version of the database.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// The database refused, or does not answer.
    #[error("{operation}: {source}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// Why it could not be done.
        source: Arc<sqlx::Error>,
    },
    /// What is stored is not what was written.
    #[error("read {what} from the database: {problem}")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process has the SQLite database open.
    #[error("another process uses the database {path}")]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A write panicked; nothing of it was written.
    #[error("a write to the database panicked")]
    Panicked,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) => "write sqlite:///path/to/file.db or postgres://USER:PASSWORD@HOST/DATABASE",
            Self::File { .. } => "make its directory, writable for this process only",
            Self::Newer { .. } => "update this process, or restore the database from before the update",
            Self::Database { .. } => {
                "look at the database: whether it runs, has room, and accepts this process"
            }
            Self::Corrupt { .. } => "restore the database from a backup",
            Self::Taken { .. } => "stop the other process, or use PostgreSQL where there are several",
            Self::Panicked => "this is a fault of transship: report it with the log around it",
            Self::Closed => "the process is stopping; try again",
        }
    }

    /// Says what was being done when the database refused.
    pub(super) fn during(operation: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source: Arc::new(source) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Class::TRANSIENT, Code::Internal, error.to_string()).with_hint(error.hint())
    }
}
