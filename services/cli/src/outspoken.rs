//! A verb that never ends without a word. Where a newer execution owns a blob, a stage drops its work in silence,
//! as it should behind a broker; a person at a terminal waits for an answer.

use async_trait::async_trait;
use transship_bus::WorkQueue;
use transship_messages::WorkItem;
use transship_model::{Code, Failure, Stage};
use transship_stage::{Context, Outcome, Verb};

/// The verb `V`, outspoken.
pub(crate) struct Outspoken<V>(pub(crate) V);

#[async_trait]
impl<V: Verb> Verb for Outspoken<V> {
    type Work = V::Work;
    const STAGE: Stage = V::STAGE;
    const QUEUE: WorkQueue = V::QUEUE;

    async fn handle(&self, work: &V::Work, context: &Context) -> Result<Outcome<V::Work>, Failure> {
        match self.0.handle(work, context).await? {
            Outcome::Superseded => Err(Failure::permanent(
                Code::Superseded,
                format!(
                    "{} of {}: a newer execution has taken the blob's name",
                    V::STAGE,
                    work.execution().id
                ),
            )
            .with_hint("another command or service writes to this name: give each a name of its own")),
            other => Ok(other),
        }
    }
}
