//! What is wrong with a request, all at once. Pure: nothing is looked up here.

mod pipeline;
mod route;
mod run;
mod storage;

use transship_api::{Kind, ResourceId, is_name};

pub(crate) use pipeline::{export_options, export_pipeline, import_options, import_pipeline};
pub(crate) use route::route;
pub(crate) use run::run;
pub(crate) use storage::credential;
use storage::is_identity_mode_word;

use crate::refusal::{Faults, Refusal};

/// The bounds of names in a resource id (Azure Resource Manager's own).
const MAX_SUBSCRIPTION: usize = 64;
const MAX_GROUP: usize = 90;

/// Whether a resource of this identifier may be made. Reading and deleting takes any name, since those of the
/// source trigger hold `_`.
pub(crate) fn name_of_new(id: &ResourceId, known_registry: bool) -> Result<(), Refusal> {
    let mut faults = Faults::default();
    let fine = |text: &str, most: usize, more: &[u8]| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !fine(&id.subscription, MAX_SUBSCRIPTION, b"-_.") {
        faults.add(
            "InvalidSubscriptionId",
            "subscriptionId",
            "The subscription may hold letters, digits, '-', '_' and '.', at most 64 of them.",
        );
    }
    if !fine(&id.group, MAX_GROUP, b"-_.()") {
        faults.add(
            "InvalidResourceGroupName",
            "resourceGroupName",
            "The resource group may hold letters, digits, '-', '_', '.' and parentheses, at most 90 of them.",
        );
    }
    if !known_registry {
        faults.add(
            "InvalidRegistryName",
            "registryName",
            format!(
                "The registry {:?} is not in the configuration, and cannot be a registry in Azure: such a name has \
                 5 to 50 letters and digits. Correct the name, or add [registries.NAME] to the configuration.",
                shown(&id.registry)
            ),
        );
    }
    if let Some((kind, name)) = &id.resource
        && !is_name(name)
    {
        faults.add(
            "InvalidResourceName",
            name_parameter(*kind),
            format!("The name {:?} is not valid: use 5 to 50 letters and digits.", shown(name)),
        );
    }
    faults.or(())
}

/// What clients call the name of a resource of this kind.
fn name_parameter(kind: Kind) -> &'static str {
    match kind {
        Kind::ExportPipeline => "exportPipelineName",
        Kind::ImportPipeline => "importPipelineName",
        Kind::PipelineRun => "pipelineRunName",
        Kind::Route => "routeName",
    }
}

/// Text of a client, as far as a message repeats it.
pub(crate) fn shown(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_to_their_rules_when_a_resource_is_made() {
        let registry = ResourceId::registry("s", "g", "contoso");
        for (id, known, code) in [
            (registry.child(Kind::PipelineRun, "nightly"), true, None),
            (registry.child(Kind::PipelineRun, "nig"), true, Some("InvalidResourceName")),
            (registry.child(Kind::PipelineRun, "my_run"), true, Some("InvalidResourceName")),
            (registry.child(Kind::Route, &"a".repeat(51)), true, Some("InvalidResourceName")),
            (registry.child(Kind::Route, "route"), false, Some("InvalidRegistryName")),
            (
                ResourceId::registry("s s", "g", "c").child(Kind::Route, "route"),
                true,
                Some("InvalidSubscriptionId"),
            ),
            (
                ResourceId::registry("s", "g/", "c").child(Kind::Route, "route"),
                true,
                Some("InvalidResourceGroupName"),
            ),
        ] {
            let found = name_of_new(&id, known).err().map(|refusal| refusal.error.code);
            assert_eq!(found.as_deref(), code, "{id}");
        }
    }
}
