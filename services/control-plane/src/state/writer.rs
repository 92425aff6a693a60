//! The one writer: what waits for it becomes one transaction, with a savepoint for each, and everybody is answered
//! after the commit. A commit costs one wait for the disk however many share it.

use std::panic::AssertUnwindSafe;

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

/// A piece of a transaction that was done, and waits for the commit.
enum Done {
    Write(Box<dyn Job>, Option<StoreError>),
    Folds(Vec<(Heard, Result<Folded, StoreError>)>),
}

/// One transaction. Where it cannot begin or commit, everybody hears why.
async fn together(pool: &AnyPool, begin: Begin, items: Vec<Item>) {
    if items.is_empty() {
        return;
    }
    let failed = |error| StoreError::during("begin a transaction")(error);
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(error) => return refuse_all(items, &StoreError::during("connect to the database")(error)),
    };
    let mut transaction = match connection.begin_with(begin.statement).await {
        Ok(transaction) => transaction,
        Err(error) => return refuse_all(items, &failed(error)),
    };
    if let Some(then) = begin.then
        && let Err(error) = transaction.execute(then).await
    {
        return refuse_all(items, &failed(error));
    }
    let mut done = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        match item {
            Item::Write(mut job) => {
                let failure = run(&mut transaction, &mut *job).await.err();
                done.push(Done::Write(job, failure));
            }
            Item::Fold(first) => {
                let mut heard = vec![*first];
                while let Some(Item::Fold(next)) = items.next_if(|item| matches!(item, Item::Fold(_))) {
                    heard.push(*next);
                }
                done.push(Done::Folds(fold(&mut transaction, heard).await));
            }
            Item::Close => {}
        }
    }
    let committed = transaction.commit().await.map_err(StoreError::during("commit")).err();
    for done in done {
        match done {
            Done::Write(job, failure) => job.answer(failure.or_else(|| committed.clone())),
            Done::Folds(folds) => folds.into_iter().for_each(|(heard, result)| {
                heard.answer(committed.clone().map_or(result, Err));
            }),
        }
    }
}

/// Facts of one execution share a savepoint.
async fn fold(
    transaction: &mut AnyConnection,
    heard: Vec<Heard>,
) -> Vec<(Heard, Result<Folded, StoreError>)> {
    let mut all = Vec::with_capacity(heard.len());
    for group in folding::by_execution(heard) {
        let folded = fold_group(transaction, &group).await;
        match folded {
            Ok(results) => all.extend(group.into_iter().zip(results.into_iter().map(Ok))),
            Err(error) => all.extend(group.into_iter().map(|heard| (heard, Err(error.clone())))),
        }
    }
    all
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
