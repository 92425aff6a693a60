//! Runs.

use serde_json::Value;
use transship_api::{OperationStatus, PipelineRun, ResourceId};

use super::{Api, By, Put, json_of, operation_status, run_view, shown_id, unavailable};
use crate::put::{PutDecision, Wanted, decide_put};
use crate::refusal::Refusal;
use crate::snapshot::snapshot;
use crate::state::{
    NewExecution, NewRun, Origin, PartRecord, PipelineSnapshot, PutOutcome, RunDecision, RunKind, RunRecord,
    RunState,
};
use crate::{check, clock, random};

impl Api {
    pub(super) async fn put_run(
        &self,
        id: &ResourceId,
        run: PipelineRun,
        by: By<'_>,
    ) -> Result<Put, Refusal> {
        let PipelineRun { location, properties, .. } = run;
        let force_update_tag = properties.force_update_tag.clone();
        let checked = check::run(id, properties, self.limits.artifacts_per_run)?;
        let existing = self.store.run(id).await.map_err(unavailable)?;
        let wanted = Wanted { id, request: &checked.request, force_update_tag: force_update_tag.as_deref() };
        if let Some(run) = existing.as_ref().filter(|run| decide_put(Some(run), wanted) == PutDecision::Same)
        {
            // Its pipeline may be gone by now; that does not matter to a run that is there.
            return self.put_answer(run, false).await;
        }
        if checked.kind == RunKind::Export {
            self.may_export(id)?;
        }
        let pipeline = self.pipeline(&checked.pipeline).await?;
        let new = NewRun {
            id: id.clone(),
            kind: checked.kind,
            location,
            execution: NewExecution::Own(random::execution()),
            operation: random::operation(),
            request: checked.request,
            force_update_tag,
            origin: Origin::Request,
            pipeline,
            blob: checked.blob,
            traceparent: traceparent(by.traceparent),
            by: by.caller.to_owned(),
            now_ms: clock::now_ms(),
        };
        let decide = move |existing: Option<&RunRecord>| {
            let force_update_tag = new.force_update_tag.as_deref();
            match decide_put(existing, Wanted { id: &new.id, request: &new.request, force_update_tag }) {
                PutDecision::Start | PutDecision::StartAgain => RunDecision::Start(Box::new(new)),
                PutDecision::Same => RunDecision::Same,
                PutDecision::Refuse(refusal) => RunDecision::Refuse(refusal.status, refusal.error),
            }
        };
        match self.store.put_run(id, decide).await.map_err(unavailable)? {
            PutOutcome::Started(run) => {
                fail::fail_point!("control.put_stored");
                self.wake.wake();
                self.put_answer(&run, true).await
            }
            PutOutcome::Unchanged(run) => self.put_answer(&run, false).await,
            PutOutcome::Refused { status, error } => Err(Refusal { status, error }),
        }
    }

    /// The pipeline as it is now.
    async fn pipeline(&self, id: &ResourceId) -> Result<PipelineSnapshot, Refusal> {
        let target = "properties.request.pipelineResourceId";
        let record = self.store.resource(id).await.map_err(unavailable)?.ok_or_else(|| {
            let message = format!("{} was not found. Create the pipeline before its runs.", shown_id(id));
            Refusal::new(404, "PipelineNotFound", message).at(target)
        })?;
        snapshot(&self.store, &self.registries, &record).await.map_err(|failure| {
            let hint = failure.hint.map(|hint| format!(" Hint: {hint}.")).unwrap_or_default();
            Refusal::new(400, "PipelineUnusable", format!("{}.{hint}", failure.message)).at(target)
        })
    }

    async fn put_answer(&self, run: &RunRecord, started: bool) -> Result<Put, Refusal> {
        // A run that was accepted just now has no parts yet.
        let parts = if started { Vec::new() } else { self.parts(run).await? };
        let body = json_of(&run_view(run, Some(&parts)));
        // A client that polls hears why a run failed; one that only reads the resource does not.
        let open = !matches!(run.state, RunState::Succeeded { .. });
        Ok(Put { body, started, operation: open.then(|| run.operation.clone()) })
    }

    async fn parts(&self, run: &RunRecord) -> Result<Vec<PartRecord>, Refusal> {
        self.store.parts(&run.execution).await.map_err(unavailable)
    }

    pub(super) async fn get_run(&self, id: &ResourceId) -> Result<Value, Refusal> {
        let run = self.store.run(id).await.map_err(unavailable)?;
        let run = run.ok_or_else(|| Refusal::not_found(shown_id(id)))?;
        let parts = self.parts(&run).await?;
        Ok(json_of(&run_view(&run, Some(&parts))))
    }

    /// The status of the run's operation of this name.
    pub(crate) async fn operation(
        &self,
        id: &ResourceId,
        operation: &str,
    ) -> Result<OperationStatus, Refusal> {
        let run = self.store.run_by_operation(operation).await.map_err(unavailable)?;
        let run = run.filter(|run| run.id == *id).ok_or_else(|| {
            let message = "The operation was not found: its run was deleted, or has been run again since. GET the \
                           run to see where it is.";
            Refusal::new(404, "OperationNotFound", message)
        })?;
        Ok(operation_status(&run))
    }
}

/// The trace context of a run: below the client's own span where it sent one, else a trace of its own.
fn traceparent(client: Option<&str>) -> String {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid = client.filter(|text| {
        let fields: Vec<&str> = text.split('-').collect();
        matches!(fields[..], [version, trace, span, flags]
            if version == "00" && flags.len() == 2 && trace.len() == 32 && span.len() == 16
            && [trace, span, flags].into_iter().all(is_hex)
            && trace.bytes().any(|b| b != b'0') && span.bytes().any(|b| b != b'0'))
    });
    valid.map_or_else(random::traceparent, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_in_the_clients_trace_where_that_is_valid() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(Some(valid)), valid);
        for bad in [
            None,
            Some(""),
            Some("nonsense"),
            Some(&*valid.replace('a', "G")),
            Some(&*valid.replace('7', "0000")),
        ] {
            let made = traceparent(bad);
            assert!(made.len() == 55 && Some(made.as_str()) != bad, "{made}");
        }
    }
}
