//! The copies of a part's bundle, as its exporter sent them: to send those again that were lost.

use transship_messages::CopyRequested;
use transship_model::{Code, ContainerUrl, Counters, Failure, Part, Route, Stage};

use crate::fold::copies;
use crate::state::{Action, PartRecord, RunRecord};

/// The copies of a part that are not over. Each is of the bundle that was exported and of no other one.
///
/// # Errors
/// A part that was not exported, or a copy by a route that the exporter has in its own configuration.
pub fn plan_copies(run: &RunRecord, part: &PartRecord) -> Result<Vec<CopyRequested>, Failure> {
    let mut work = Vec::new();
    for target in copies(&part.summary).filter_map(|row| row.target.as_ref()) {
        let planned = plan_to(run, part, target).unwrap_or_default();
        if planned.is_empty() {
            return Err(unknown(target));
        }
        work.extend(planned);
    }
    Ok(work)
}

/// The copies to one container, of which there is one for each route; `None` where too little is known to send them.
fn plan_to(run: &RunRecord, part: &PartRecord, target: &ContainerUrl) -> Option<Vec<CopyRequested>> {
    let Action::Export { routes: Some(routes), .. } = &run.pipeline.action else { return None };
    let exported = part.state.stages.iter().find(|known| known.stage == Stage::Exporter)?.end.as_ref()?;
    let leads_there =
        |route: &&Route| route.target == *target && route.applies(&run.pipeline.container, &exported.blob);
    let Counters { artifacts_discovered, artifacts_failed, .. } = exported.counters;
    let (etag, length, digest) =
        (exported.etag.as_ref()?, exported.length?, exported.catalog_digest.as_ref()?);
    let copy = |route: &Route| CopyRequested {
        execution: run.execution.clone(),
        part: Part { number: part.number, count: run.parts },
        source_secret: run.pipeline.credential.clone(),
        blob: exported.blob.clone(),
        etag: etag.clone(),
        length,
        artifacts: artifacts_discovered.saturating_sub(artifacts_failed),
        catalog_digest: digest.clone(),
        route: route.clone(),
        slice: 0,
        carried: Counters::default(),
    };
    Some(routes.iter().filter(leads_there).map(copy).collect())
}

fn unknown(to: &ContainerUrl) -> Failure {
    let message = format!(
        "nothing is heard of the copy to {to}, and it cannot be sent again from here: the exporter has that route"
    );
    Failure::permanent(Code::Internal, message).with_hint(
        "run again with another forceUpdateTag, and make the route a resource of the control plane",
    )
}

#[cfg(test)]
mod tests {
    use transship_messages::WorkItem;
    use transship_model::Digest;

    use super::*;
    use crate::testing::{copied, exported, fact, run_record};

    fn container(name: &str) -> ContainerUrl {
        format!("https://{name}.example/c").parse().unwrap()
    }

    /// An export of two parts, with routes to these containers.
    fn export(targets: &[&str]) -> RunRecord {
        let mut run = RunRecord { parts: 2, blob: "nightly".parse().unwrap(), ..run_record("nightly") };
        let route = |name: &&str| Route {
            source: run.pipeline.container.clone(),
            pattern: Default::default(),
            target: container(name),
            target_secret: None,
            overwrite: false,
            import_pipeline: Some("target.inbox".parse().unwrap()),
            import_destination: None,
        };
        let routes = Some(targets.iter().map(route).collect());
        run.pipeline.action = Action::Export { options: Default::default(), routes };
        run
    }

    /// The second part of `run`: exported, to be copied to `targets`, and copied to `done`.
    fn part(run: &RunRecord, targets: &[&str], done: &[&str]) -> PartRecord {
        let targets: Vec<ContainerUrl> = targets.iter().map(|name| container(name)).collect();
        let mut state = exported(run, 2, &targets);
        for target in done.iter().map(|name| container(name)) {
            state.apply(&fact(run, 2, Stage::BlobCopier, Some(&target), copied(run, 2, &target)));
        }
        PartRecord { number: 2, summary: state.summary(), state }
    }

    #[test]
    fn only_the_copies_that_are_not_over_are_sent_again_as_the_exporter_sent_them() {
        let run = export(&["a", "b"]);
        let Action::Export { routes: Some(routes), .. } = &run.pipeline.action else { panic!("routes") };
        let work = plan_copies(&run, &part(&run, &["a", "b"], &["a"])).unwrap();
        let expected = CopyRequested {
            execution: run.execution.clone(),
            part: Part { number: 2, count: 2 },
            source_secret: run.pipeline.credential.clone(),
            blob: "nightly-0002-of-0002".parse().unwrap(),
            etag: "0x1".to_owned(),
            length: 77,
            artifacts: 3,
            catalog_digest: Digest::sha256(b"index"),
            route: routes[1].clone(),
            slice: 0,
            carried: Counters::default(),
        };
        assert_eq!(work, std::slice::from_ref(&expected));
        assert!(plan_copies(&run, &part(&run, &["a", "b"], &["a", "b"])).unwrap().is_empty());
        let ids = |work: &[CopyRequested]| work.iter().map(WorkItem::message_id).collect::<Vec<_>>();
        let both = plan_copies(&run, &part(&run, &["a", "b"], &[])).unwrap();
        assert_eq!((both.len(), ids(&both).last()), (2, ids(&work).last()));
        // Two routes may lead to one container, each for an import pipeline of its own.
        let twice = export(&["a", "a"]);
        assert_eq!(plan_copies(&twice, &part(&twice, &["a"], &[])).unwrap().len(), 2);
    }

    #[test]
    fn a_copy_by_a_route_that_only_the_exporter_has_cannot_be_sent_again() {
        let mut configured = export(&[]);
        configured.pipeline.action = Action::Export { options: Default::default(), routes: None };
        for run in [configured, export(&["b"])] {
            let failure = plan_copies(&run, &part(&run, &["a"], &[])).unwrap_err();
            assert!(failure.message.contains("https://a.example/c") && failure.hint.is_some(), "{failure}");
        }
    }
}
