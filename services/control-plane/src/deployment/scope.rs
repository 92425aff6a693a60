//! What an expression can see.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DeploymentContext, MAX_NESTED, identifiers};

/// A parameter or variable.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    /// What was given.
    Value(Value),
    /// What the template says, in expressions.
    Raw(Value),
}

/// Parameters or variables by their names in lower case.
pub(super) type Slots = BTreeMap<String, Slot>;

/// The resources that references may find, by their identifiers in lower case.
pub(super) type Known = BTreeMap<String, Value>;

/// The identifiers of a template's resources, by their names in lower case.
pub(super) type Names = BTreeMap<String, String>;

/// One template, as its expressions see it: the deployment, its parameters and its variables.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The deployment.
    pub(super) context: DeploymentContext,
    /// The subscription and resource group that its resources are in.
    pub(super) place: (String, String),
    /// How many deployments are around it.
    pub(super) level: usize,
    /// Its parameters.
    pub(super) parameters: Slots,
    /// Its variables.
    pub(super) variables: Slots,
    /// Its resources by name.
    pub(super) names: Names,
}

impl Frame {
    /// `resourceGroup()`.
    pub(super) fn group(&self) -> Value {
        let DeploymentContext { subscription, group, location, .. } = &self.context;
        json!({
            "id": identifiers::group(subscription, group),
            "name": group,
            "type": "Microsoft.Resources/resourceGroups",
            "location": location,
            "properties": { "provisioningState": "Succeeded" },
        })
    }

    /// `subscription()`.
    pub(super) fn subscription(&self) -> Value {
        let DeploymentContext { subscription, tenant, .. } = &self.context;
        json!({
            "id": format!("/subscriptions/{subscription}"),
            "subscriptionId": subscription,
            "tenantId": tenant,
            "displayName": subscription,
        })
    }

    /// `deployment()`.
    pub(super) fn deployment(&self) -> Value {
        let DeploymentContext { name, mode, .. } = &self.context;
        json!({
            "id": self.context.id(),
            "name": name,
            "properties": { "mode": mode, "provisioningState": "Accepted" },
        })
    }

    /// `environment()`, as far as vaults need it.
    pub(super) fn environment(&self) -> Value {
        json!({ "suffixes": { "keyvaultDns": format!(".{}", self.context.vault_suffix) } })
    }

    /// Whether another deployment may be in this one.
    pub(super) fn may_nest(&self) -> bool {
        self.level < MAX_NESTED
    }
}
