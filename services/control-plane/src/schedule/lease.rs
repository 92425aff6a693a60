//! The right to start the runs of one pipeline, where several replicas share the state: held as long as the work
//! takes, and free soon after a replica died.

use std::time::Duration;

use tokio::time::Instant;
use transship_model::{Code, Failure};

use crate::clock::now_ms;
use crate::state::Store;

/// How soon a lease that another replica has is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A lease of this replica.
pub(super) struct Lease<'a> {
    pub(super) store: &'a Store,
    pub(super) name: String,
    /// Tells this process from other replicas.
    pub(super) holder: &'a str,
    /// How long it lasts where nobody renews it, in seconds.
    pub(super) seconds: u32,
}

impl Lease<'_> {
    /// Does `work` while the lease is held. It waits for another replica that has it, renews it meanwhile, gives up
    /// the work where it is lost, and gives it back in the end.
    ///
    /// # Errors
    /// Those of `work`, and where the lease cannot be had or was lost.
    pub(super) async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        while !self.renew().await? {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let done = tokio::select! {
            done = work => done,
            failure = self.lost() => return Err(failure),
        };
        // One that cannot be given back ends by itself.
        if let Err(error) = self.store.lease(&self.name, self.holder, now_ms(), 0).await {
            tracing::warn!(%error, lease = self.name, "a lease was not given back");
        }
        done
    }

    async fn renew(&self) -> Result<bool, Failure> {
        Ok(self.store.lease(&self.name, self.holder, now_ms(), self.seconds).await?)
    }

    /// Renews the lease until it is lost, and says so.
    async fn lost(&self) -> Failure {
        let pause = Duration::from_secs(self.seconds.into()) / 3;
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => {
                    let message = format!("another replica has taken the lease {}", self.name);
                    return Failure::transient(Code::Internal, message);
                }
                // Once more is possible before somebody else may have it.
                Err(_) if renewed.elapsed() < pause * 2 => {}
                Err(failure) => return failure,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::Secret;
    use transship_rig::Postgres;

    use super::*;

    #[tokio::test]
    async fn work_that_takes_longer_than_a_lease_keeps_it_and_ends_where_it_is_lost() {
        let server = Postgres::start().await.unwrap();
        let store = Store::open(&Secret::new(&server.database().await.unwrap())).await.unwrap();
        let lease = Lease { store: &store, name: "l".to_owned(), holder: "one", seconds: 1 };
        // Another replica asks all the time.
        let others = async {
            let until = Instant::now() + Duration::from_secs(3);
            let mut taken = false;
            while Instant::now() < until {
                taken |= store.lease("l", "other", now_ms(), 1).await.unwrap();
            }
            Ok(taken)
        };
        assert!(!lease.during(others).await.unwrap(), "it was held for three times its length");
        let robbed = async {
            // As after a pause of the whole process.
            assert!(store.lease("l", "other", now_ms() + 10_000, 60).await.unwrap());
            std::future::pending::<Result<(), Failure>>().await
        };
        let failure = lease.during(robbed).await.unwrap_err();
        assert!(failure.message.contains("another replica"), "{failure:?}");
        store.close().await;
    }
}
