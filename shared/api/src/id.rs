//! ARM resource identifiers. They are compared without regard to case, and shown as they were written.

use std::fmt;
use std::str::FromStr;

/// The kinds of resources that the control plane holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `registries/exportPipelines`.
    ExportPipeline,
    /// `registries/importPipelines`.
    ImportPipeline,
    /// `registries/pipelineRuns`.
    PipelineRun,
    /// `registries/routes`, a resource of transship's own.
    Route,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::ExportPipeline, Self::ImportPipeline, Self::PipelineRun, Self::Route];

    /// The segment of the path, such as `exportPipelines`.
    pub fn segment(self) -> &'static str {
        match self {
            Self::ExportPipeline => "exportPipelines",
            Self::ImportPipeline => "importPipelines",
            Self::PipelineRun => "pipelineRuns",
            Self::Route => "routes",
        }
    }

    /// The type, such as `Microsoft.ContainerRegistry/registries/exportPipelines`.
    pub fn resource_type(self) -> String {
        format!("{PROVIDER}/registries/{}", self.segment())
    }

    /// The kind of a path segment, whatever its case.
    pub fn of_segment(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.segment().eq_ignore_ascii_case(segment))
    }
}

/// The resource provider that clients of Azure Container Registry address.
pub const PROVIDER: &str = "Microsoft.ContainerRegistry";

/// The identifier of a resource below a registry, or of the registry itself where there is no kind and name:
/// `/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerRegistry/registries/R[/KIND/NAME]`.
#[derive(Debug, Clone)]
pub struct ResourceId {
    /// The subscription.
    pub subscription: String,
    /// The resource group.
    pub group: String,
    /// The registry.
    pub registry: String,
    /// The kind and name of the resource below it.
    pub resource: Option<(Kind, String)>,
}

/// Why a string is not the identifier of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} is not a resource id: expected /subscriptions/S/resourceGroups/G/providers/\
     Microsoft.ContainerRegistry/registries/R, with /exportPipelines/NAME and the like behind it"
)]
pub struct ResourceIdError {
    shown: String,
}

impl ResourceId {
    /// The registry's own identifier.
    pub fn registry(subscription: &str, group: &str, registry: &str) -> Self {
        let (subscription, group, registry) = (subscription.into(), group.into(), registry.into());
        Self { subscription, group, registry, resource: None }
    }

    /// The identifier of a resource below this one's registry.
    #[must_use]
    pub fn child(&self, kind: Kind, name: &str) -> Self {
        Self { resource: Some((kind, name.to_owned())), ..self.clone() }
    }

    /// The identifier of the registry that this one is below.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self { resource: None, ..self.clone() }
    }

    /// The resource's name; the registry's where it is one.
    pub fn name(&self) -> &str {
        self.resource.as_ref().map_or(&self.registry, |(_, name)| name)
    }

    /// The form that identifiers are compared and kept by: in lower case.
    pub fn key(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ResourceId {}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscription, group, registry, resource } = self;
        write!(
            f,
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/{PROVIDER}/registries/{registry}"
        )?;
        match resource {
            Some((kind, name)) => write!(f, "/{}/{name}", kind.segment()),
            None => Ok(()),
        }
    }
}

impl FromStr for ResourceId {
    type Err = ResourceIdError;

    fn from_str(text: &str) -> Result<Self, ResourceIdError> {
        let error = || ResourceIdError { shown: text.chars().take(300).collect() };
        let segments: Vec<&str> = text.trim_matches('/').split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err(error());
        }
        let words =
            [(0, "subscriptions"), (2, "resourceGroups"), (4, "providers"), (5, PROVIDER), (6, "registries")];
        let fits = words
            .into_iter()
            .all(|(at, word)| segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word)));
        let resource = match (fits, segments.len()) {
            (true, 8) => None,
            (true, 10) => Some((Kind::of_segment(segments[8]).ok_or_else(error)?, segments[9].to_owned())),
            _ => return Err(error()),
        };
        Ok(Self { resource, ..Self::registry(segments[1], segments[3], segments[7]) })
    }
}

/// Whether `name` may be the name of a pipeline, route or run that a client makes: 5 to 50 letters and digits.
/// Names that the source trigger gives hold `_` as well, and are read and deleted under them.
pub fn is_name(name: &str) -> bool {
    (5..=50).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether `name` may be the name of a registry: 5 to 50 letters and digits.
pub fn is_registry_name(name: &str) -> bool {
    is_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso";

    #[test]
    fn identifiers_are_compared_without_case_and_shown_as_they_were_written() {
        let id: ResourceId = format!("{REGISTRY}/pipelineRuns/Nightly").parse().unwrap();
        assert_eq!(id.to_string(), format!("{REGISTRY}/pipelineRuns/Nightly"));
        let other: ResourceId = id.to_string().to_uppercase().parse().unwrap();
        assert_eq!(other, id);
        assert_eq!(other.name(), "NIGHTLY");
        assert_eq!(id.parent().to_string(), REGISTRY);
        assert_eq!(id.parent().child(Kind::PipelineRun, "nightly"), id);
    }

    #[test]
    fn what_is_not_an_identifier_is_refused() {
        for text in [
            "",
            "/",
            "/subscriptions/s",
            "/subscriptions/s/resourceGroups/g/providers/Other/registries/contoso",
            &format!("{REGISTRY}/pipelineRuns"),
            &format!("{REGISTRY}/webhooks/x"),
            &format!("{REGISTRY}/pipelineRuns/x/y"),
            &format!("{REGISTRY}//x"),
        ] {
            assert!(text.parse::<ResourceId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_have_five_to_fifty_letters_and_digits() {
        for (name, expected) in [
            ("abcde", true),
            ("Nightly2026", true),
            ("abcd", false),
            ("my_run", false),
            ("night-ly", false),
            (&"a".repeat(50), true),
            (&"a".repeat(51), false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }
}
