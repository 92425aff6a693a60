//! The one writer: what waits for it becomes one transaction, with a savepoint for each, and everybody is answered
//! after the commit. A commit costs one wait for the disk however many share it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Transaction};
use tokio::sync::{mpsc, oneshot};
use transship_messages::Fact;

use super::error::StoreError;
use super::folding::{self, Heard};
use super::records::Folded;

/// How many writes may wait. More make their callers wait.
pub(super) const WAITING: usize = 1024;

/// The most writes of one transaction.
const TOGETHER: usize = 256;

/// What a write does inside of the transaction.
pub(super) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

/// Something that waits for the writer.
pub(super) enum Item {
    /// A write with its answer.
    Write(Box<dyn Job>),
    /// A fact; those that wait together are folded together.
    Fold(Box<Heard>),
    /// Answer what came before, and end.
    Close,
}

/// A write, whatever its answer is.
pub(super) trait Job: Send {
    /// Does it, inside of a savepoint.
    fn run<'c>(&'c mut self, transaction: &'c mut AnyConnection) -> Work<'c, ()>;
    /// Answers: what it came to, or why it could not be done or committed.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

/// A write that answers with a `T`.
pub(super) struct Write<W, T> {
    pub(super) work: Option<W>,
    pub(super) result: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Write<W, T>
where
    W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send,
    T: Send,
{
    fn run<'c>(&'c mut self, transaction: &'c mut AnyConnection) -> Work<'c, ()> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.result = Some(work(transaction).await?);
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let Self { result, reply, .. } = *self;
        let answer = match (failure, result) {
            (Some(failure), _) => Err(failure),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(StoreError::Closed),
        };
        // Whoever asked may have gone; what was written stays written.
        let _ = reply.send(answer);
    }
}

/// How a database begins a transaction that writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// The statement.
    pub(super) statement: &'static str,
    /// What has to be done first in it.
    pub(super) then: Option<&'static str>,
    /// How long a transaction may take: a database that is reached over a network may stop to answer without a word.
    pub(super) limit: Option<Duration>,
}

/// Takes what waits until the store is closed.
pub(super) async fn write(pool: AnyPool, begin: Begin, mut waiting: mpsc::Receiver<Item>) {
    let mut items = Vec::with_capacity(TOGETHER);
    loop {
        if waiting.recv_many(&mut items, TOGETHER).await == 0 {
            return;
        }
        let closing = items.iter().position(|item| matches!(item, Item::Close));
        let rest = closing.map(|at| items.split_off(at));
        together(&pool, begin, std::mem::take(&mut items)).await;
        if let Some(rest) = rest {
            waiting.close();
            let mut refused = rest;
            waiting.recv_many(&mut refused, WAITING).await;
            refused.into_iter().for_each(|item| refuse(item, &StoreError::Closed));
            return;
        }
    }
}

fn refuse(item: Item, error: &StoreError) {
    match item {
        Item::Write(job) => job.answer(Some(error.clone())),
        Item::Fold(heard) => heard.answer(Err(error.clone())),
        Item::Close => {}
    }
}

fn refuse_all(items: Vec<Item>, error: &StoreError) {
    items.into_iter().for_each(|item| refuse(item, error));
}

/// A piece of a transaction, and what it came to. It waits for the commit.
enum Done {
    Write(Box<dyn Job>, Option<StoreError>),
    /// Facts of one execution.
    Folds(Vec<Heard>, Result<Vec<Folded>, StoreError>),
}

impl Done {
    /// Answers, where the transaction was not committed with the reason.
    fn answer(self, failure: Option<&StoreError>) {
        match self {
            Self::Write(job, failed) => job.answer(failed.or_else(|| failure.cloned())),
            Self::Folds(heard, folded) => match failure.map_or(folded, |failure| Err(failure.clone())) {
                Ok(folded) => {
                    heard.into_iter().zip(folded).for_each(|(heard, folded)| heard.answer(Ok(folded)));
                }
                Err(error) => heard.into_iter().for_each(|heard| heard.answer(Err(error.clone()))),
            },
        }
    }
}

/// One transaction. Where it cannot begin or commit, or takes too long, everybody hears why.
async fn together(pool: &AnyPool, begin: Begin, items: Vec<Item>) {
    if items.is_empty() {
        return;
    }
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(error) => return refuse_all(items, &StoreError::during("connect to the database")(error)),
    };
    let mut pieces = pieces(items);
    let Some(limit) = begin.limit else {
        let failure = transact(&mut connection, begin, &mut pieces).await.err();
        return pieces.into_iter().for_each(|piece| piece.answer(failure.as_ref()));
    };
    let failure = match tokio::time::timeout(limit, transact(&mut connection, begin, &mut pieces)).await {
        Ok(ended) => ended.err(),
        Err(_) => {
            // Whether the other end is still there nobody knows: the next transaction gets another connection.
            drop(connection.detach());
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer");
            Some(StoreError::during("wait for the database")(sqlx::Error::Io(silent)))
        }
    };
    pieces.into_iter().for_each(|piece| piece.answer(failure.as_ref()));
}

/// Facts that wait side by side are folded together: those of one execution share a savepoint.
fn pieces(items: Vec<Item>) -> Vec<Done> {
    let mut pieces = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        match item {
            Item::Write(job) => pieces.push(Done::Write(job, None)),
            Item::Fold(first) => {
                let mut heard = vec![*first];
                while let Some(Item::Fold(next)) = items.next_if(|item| matches!(item, Item::Fold(_))) {
                    heard.push(*next);
                }
                let groups = folding::by_execution(heard).into_iter();
                pieces.extend(groups.map(|group| Done::Folds(group, Ok(Vec::new()))));
            }
            Item::Close => {}
        }
    }
    pieces
}

async fn transact(
    connection: &mut AnyConnection,
    begin: Begin,
    pieces: &mut [Done],
) -> Result<(), StoreError> {
    let failed = StoreError::during("begin a transaction");
    let mut transaction = connection.begin_with(begin.statement).await.map_err(&failed)?;
    if let Some(then) = begin.then {
        transaction.execute(then).await.map_err(&failed)?;
    }
    for piece in pieces {
        match piece {
            Done::Write(job, failure) => *failure = run(&mut transaction, &mut **job).await.err(),
            Done::Folds(heard, folded) => *folded = fold_group(&mut transaction, heard).await,
        }
    }
    transaction.commit().await.map_err(StoreError::during("commit"))
}

async fn fold_group(transaction: &mut AnyConnection, group: &[Heard]) -> Result<Vec<Folded>, StoreError> {
    let facts: Vec<&Fact> = group.iter().map(|heard| &heard.fact).collect();
    let now_ms = group.iter().map(|heard| heard.now_ms).max().unwrap_or_default();
    let mut savepoint = savepoint(transaction).await?;
    let result = caught(folding::fold(&mut savepoint, &facts, now_ms)).await;
    end(savepoint, result).await
}

async fn run(transaction: &mut AnyConnection, job: &mut dyn Job) -> Result<(), StoreError> {
    let mut savepoint = savepoint(transaction).await?;
    let result = caught(job.run(&mut savepoint)).await;
    end(savepoint, result).await
}

/// A panic is a failure of the write that made it, and of no other: the writer goes on.
async fn caught<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(StoreError::Panicked))
}

type Savepoint<'c> = Transaction<'c, Any>;

async fn savepoint(transaction: &mut AnyConnection) -> Result<Savepoint<'_>, StoreError> {
    transaction.begin().await.map_err(StoreError::during("begin a savepoint"))
}

/// Ends a savepoint so that a failure undoes it and nothing else.
async fn end<T>(savepoint: Savepoint<'_>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    let ended = match &result {
        Ok(_) => savepoint.commit().await,
        Err(_) => savepoint.rollback().await,
    };
    ended.map_err(StoreError::during("end a savepoint"))?;
    result
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use sqlx::any::{AnyConnectOptions, AnyPoolOptions};

    use super::*;

    /// A write that waits for `work`.
    fn job(work: impl Future<Output = Result<u32, StoreError>> + Send + 'static) -> (Item, Answer) {
        fn boxed<W>(work: W, reply: oneshot::Sender<Result<u32, StoreError>>) -> Item
        where
            W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, u32> + Send + 'static,
        {
            Item::Write(Box::new(Write { work: Some(work), result: None, reply }))
        }
        let (reply, answer) = oneshot::channel();
        (boxed(move |_| Box::pin(work), reply), answer)
    }

    type Answer = oneshot::Receiver<Result<u32, StoreError>>;

    #[tokio::test]
    async fn a_database_that_does_not_answer_fails_what_waits_and_the_next_transaction_has_another_connection()
     {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str("sqlite::memory:").unwrap();
        let pool = AnyPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let limit = Some(Duration::from_millis(50));
        let begin = Begin { statement: "BEGIN IMMEDIATE", then: None, limit };
        let (first, first_answer) = job(async { Ok(1) });
        let (silent, silent_answer) = job(std::future::pending());
        let (last, last_answer) = job(async { Ok(3) });
        together(&pool, begin, vec![first, silent, last]).await;
        for answer in [first_answer, silent_answer, last_answer] {
            let error = answer.await.unwrap().unwrap_err();
            assert!(error.to_string().contains("does not answer"), "{error}");
        }
        let (next, answer) = job(async { Ok(4) });
        together(&pool, begin, vec![next]).await;
        assert_eq!(answer.await.unwrap().unwrap(), 4);
    }
}
