//! The schema: numbered migrations, applied at the start, each in a transaction with its number.

use sqlx::{AnyPool, Connection, Executor, Row};

use super::error::StoreError;
use super::retention::forget_executions;
use super::writer::Begin;
use crate::clock::now_ms;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite in memory: one connection, nothing survives. For tests.
    Memory,
    /// SQLite in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// The database that a URL is of.
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        // The URL itself is never shown: it may hold a password.
        match url.split_once(':') {
            Some(("sqlite", ":memory:" | "//:memory:")) => Ok(Self::Memory),
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            Some(_) => Err(StoreError::Url("its scheme is neither sqlite nor postgres".to_owned())),
            None => Err(StoreError::Url("it has no scheme".to_owned())),
        }
    }
}

/// The migrations in their order, for SQLite and for PostgreSQL. One that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        include_str!("../../migrations/sqlite/0001_state.sql"),
        include_str!("../../migrations/postgres/0001_state.sql"),
    ),
    (
        include_str!("../../migrations/sqlite/0002_deployments.sql"),
        include_str!("../../migrations/postgres/0002_deployments.sql"),
    ),
    (
        include_str!("../../migrations/sqlite/0003_runs_that_go.sql"),
        include_str!("../../migrations/postgres/0003_runs_that_go.sql"),
    ),
    (
        include_str!("../../migrations/sqlite/0004_runs_that_copy.sql"),
        include_str!("../../migrations/postgres/0004_runs_that_copy.sql"),
    ),
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY)";

/// Brings the schema up to date, and forgets executions that are over and gone.
///
/// # Errors
/// A schema that is newer than this process, or a database that refuses.
pub(super) async fn migrate(pool: &AnyPool, begin: Begin, dialect: Dialect) -> Result<(), StoreError> {
    let failed = StoreError::during("bring the schema up to date");
    let mut connection = pool.acquire().await.map_err(&failed)?;
    let mut transaction = connection.begin_with(begin.statement).await.map_err(&failed)?;
    if let Some(then) = begin.then {
        transaction.execute(then).await.map_err(&failed)?;
    }
    transaction.execute(VERSIONS).await.map_err(&failed)?;
    let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_versions";
    let row = sqlx::query(newest).fetch_one(&mut *transaction).await.map_err(&failed)?;
    let found: i64 = row.try_get(0).map_err(&failed)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, &(sqlite, postgres)) in (1_i64..).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        let sql = if dialect == Dialect::Postgres { postgres } else { sqlite };
        transaction.execute(sqlx::raw_sql(sql)).await.map_err(&failed)?;
        let applied = sqlx::query("INSERT INTO schema_versions (version) VALUES ($1)").bind(version);
        applied.execute(&mut *transaction).await.map_err(&failed)?;
    }
    forget_executions(&mut transaction, now_ms()).await?;
    transaction.commit().await.map_err(&failed)
}
