//! Opening and closing, and the two ways to the database: one writer, several readers.

use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, Executor};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use transship_messages::Fact;
use transship_model::Secret;

use super::error::StoreError;
use super::file;
use super::folding::Heard;
use super::records::Folded;
use super::schema::{self, Dialect};
use super::writer::{self, Begin, Item, WAITING, Work, Write};

/// How many readers at once.
const READERS: u32 = 4;

/// The writer has a connection of its own: however many read, what was heard can be written.
const WRITERS: u32 = 1;

/// How long whoever reads or writes waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// The statements that make SQLite keep what it said it wrote.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000;";

/// A replica that stops in the middle of a transaction holds up the others no longer than this.
const POSTGRES_SETTINGS: &str = "SET idle_in_transaction_session_timeout = '30s'; \
     SET lock_timeout = '60s'; SET statement_timeout = '60s'; SET client_min_messages = 'warning';";

/// How long a transaction at PostgreSQL may take, in which the server answers nothing: longer than each of its own limits.
const SILENCE: Duration = Duration::from_secs(150);

/// Replicas write one after the other: whoever holds this lock is the writer. So what one replica decides, the next
/// one sees, and the order of runs is the order in which they can be seen.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock(8241996638172276841)";

/// The state of the control plane. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    readers: AnyPool,
    writers: AnyPool,
    waiting: mpsc::Sender<Item>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other processes from the file.
    lock: Mutex<Option<File>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dialect", &self.inner.dialect).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a database and brings its schema up to date: `sqlite:///path/to/file.db`, `sqlite::memory:` or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`. A file that is not there is made, readable by its owner only.
    ///
    /// # Errors
    /// An unknown URL, a database that does not answer, a schema that is newer than this process.
    pub async fn open(url: &Secret) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url.expose())?;
        let mut lock = None;
        let (readers, writers) = match dialect {
            Dialect::Memory => {
                let pool = connect("sqlite::memory:", 1, SQLITE_SETTINGS).await?;
                (pool.clone(), pool)
            }
            Dialect::Sqlite => {
                let url = url.expose();
                let options = SqliteConnectOptions::from_str(url).map_err(refused)?;
                lock = Some(file::take(options.get_filename())?);
                let writers = connect(url, WRITERS, SQLITE_SETTINGS).await?;
                (connect(url, READERS, SQLITE_SETTINGS).await?, writers)
            }
            Dialect::Postgres => {
                let writers = connect(url.expose(), WRITERS, POSTGRES_SETTINGS).await?;
                (connect(url.expose(), READERS, POSTGRES_SETTINGS).await?, writers)
            }
        };
        let begin = match dialect {
            Dialect::Memory | Dialect::Sqlite => {
                Begin { statement: "BEGIN IMMEDIATE", then: None, limit: None }
            }
            Dialect::Postgres => {
                Begin { statement: "BEGIN", then: Some(POSTGRES_LOCK), limit: Some(SILENCE) }
            }
        };
        schema::migrate(&writers, begin, dialect).await?;
        let (waiting, receiver) = mpsc::channel(WAITING);
        let writer = tokio::spawn(writer::write(writers.clone(), begin, receiver));
        let (writer, lock) = (Mutex::new(Some(writer)), Mutex::new(lock));
        Ok(Self { inner: Arc::new(Inner { dialect, readers, writers, waiting, writer, lock }) })
    }

    /// Ends what is being written, and closes every connection.
    pub async fn close(&self) {
        if let Some(writer) = self.inner.writer.lock().await.take() {
            // A writer that is gone already has nothing to end.
            let _ = self.inner.waiting.send(Item::Close).await;
            if let Err(error) = writer.await {
                tracing::error!(%error, "the writer of the store ended unexpectedly");
            }
        }
        self.inner.writers.close().await;
        self.inner.readers.close().await;
        drop(self.inner.lock.lock().await.take());
    }

    /// Folds one fact into the state of its part and of the runs of its execution. Many calls at once become one
    /// commit.
    ///
    /// # Errors
    /// Where it was not stored; it may be folded again.
    pub async fn fold(&self, fact: Fact, now_ms: i64) -> Result<Folded, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Item::Fold(Box::new(Heard { fact, now_ms, reply }))).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether several processes may share the database.
    pub(super) fn is_shared(&self) -> bool {
        self.inner.dialect == Dialect::Postgres
    }

    pub(super) fn readers(&self) -> &AnyPool {
        &self.inner.readers
    }

    /// Writes, together with whatever else waits to be written. It is done even where the caller goes away.
    pub(super) async fn write<W, T>(&self, work: W) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Item::Write(Box::new(Write { work: Some(work), result: None, reply }))).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn send(&self, item: Item) -> Result<(), StoreError> {
        self.inner.waiting.send(item).await.map_err(|_| StoreError::Closed)
    }
}

async fn connect(url: &str, connections: u32, settings: &'static str) -> Result<AnyPool, StoreError> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        // A database in memory lives as long as its connection.
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(sqlx::raw_sql(settings)).await.map(drop) })
        })
        .connect(url)
        .await
        .map_err(StoreError::during("connect to the database"))
}

fn refused(error: sqlx::Error) -> StoreError {
    StoreError::Url(error.to_string())
}
