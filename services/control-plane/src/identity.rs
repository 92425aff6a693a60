//! The identities of pipelines, as clients read them right after a PUT: templates give a vault's access to the
//! `principalId` that they find there.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use transship_api::{IdentityProperties, UserAssignedIdentity};

use crate::random::guid;

/// The identities that this control plane and the stages run as. Where one is not configured, its identifiers are
/// derived from its name and marked `derived`: they name nobody in Microsoft Entra.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// The tenant of all identities.
    pub tenant_id: Option<String>,
    /// The principal of the system-assigned identity.
    pub principal_id: Option<String>,
    /// The user-assigned identities, by resource id.
    pub user_assigned: BTreeMap<String, UserAssignedConfig>,
}

/// A user-assigned identity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserAssignedConfig {
    /// Its principal.
    pub principal_id: String,
    /// Its client id.
    pub client_id: String,
}

impl IdentityConfig {
    /// The tenant: the configured one, else a derived one.
    pub(crate) fn tenant(&self) -> String {
        self.tenant_id.clone().unwrap_or_else(|| derive("tenant"))
    }

    /// The identity as it is served: what the client gave, with its read-only properties filled in. `pipeline` is
    /// the key of the pipeline's resource id.
    pub(crate) fn fill(&self, given: IdentityProperties, pipeline: &str) -> IdentityProperties {
        let kind = given.identity_type.unwrap_or_else(|| "SystemAssigned".to_owned());
        let has = |word: &str| kind.to_ascii_lowercase().contains(word);
        let mut derived = false;
        let mut known = |configured: Option<&String>, name: &str| {
            configured.cloned().unwrap_or_else(|| {
                derived = true;
                derive(name)
            })
        };
        let (mut principal_id, mut tenant_id) = (None, None);
        if has("systemassigned") {
            principal_id = Some(known(self.principal_id.as_ref(), &format!("principal {pipeline}")));
            tenant_id = Some(known(self.tenant_id.as_ref(), "tenant"));
        }
        let mut user_assigned_identities = BTreeMap::new();
        for id in given.user_assigned_identities.into_keys().filter(|_| has("userassigned")) {
            let found = self.user_assigned.iter().find(|(name, _)| name.eq_ignore_ascii_case(&id));
            let found = found.map(|(_, identity)| identity);
            let key = id.to_ascii_lowercase();
            let identity = UserAssignedIdentity {
                principal_id: Some(known(found.map(|f| &f.principal_id), &format!("principal {key}"))),
                client_id: Some(known(found.map(|f| &f.client_id), &format!("client {key}"))),
            };
            user_assigned_identities.insert(id, identity);
        }
        let none = kind.eq_ignore_ascii_case("none");
        let origin = (!none).then(|| if derived { "derived" } else { "configured" }.to_owned());
        // The service that clients know answers with a lower first letter.
        let identity_type = Some(kind[..1].to_ascii_lowercase() + &kind[1..]);
        IdentityProperties { principal_id, tenant_id, identity_type, user_assigned_identities, origin }
    }
}

/// An identifier that is always the same for `name`, in the form of a GUID of version 8 (RFC 9562).
fn derive(name: &str) -> String {
    let hash = Sha256::digest(format!("transship identity: {name}"));
    let mut bytes: [u8; 16] = hash[..16].try_into().expect("a SHA-256 has 32 bytes");
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    guid(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(kind: &str, users: &[&str]) -> IdentityProperties {
        let users = users.iter().map(|id| ((*id).to_owned(), UserAssignedIdentity::default()));
        let identity_type = (!kind.is_empty()).then(|| kind.to_owned());
        IdentityProperties {
            identity_type,
            user_assigned_identities: users.collect(),
            ..IdentityProperties::default()
        }
    }

    #[test]
    fn a_principal_is_there_at_once_and_says_where_it_comes_from() {
        let nothing = IdentityConfig::default();
        let system = nothing.fill(given("", &[]), "p");
        assert_eq!(system.identity_type.as_deref(), Some("systemAssigned"));
        assert_eq!(system.origin.as_deref(), Some("derived"));
        assert_eq!(system, nothing.fill(given("SystemAssigned", &[]), "p"));
        assert_ne!(system.principal_id, nothing.fill(given("", &[]), "q").principal_id);
        let configured = IdentityConfig {
            tenant_id: Some("t".into()),
            principal_id: Some("p".into()),
            user_assigned: BTreeMap::new(),
        };
        let system = configured.fill(given("", &[]), "p");
        assert_eq!(
            (system.principal_id.as_deref(), system.origin.as_deref()),
            (Some("p"), Some("configured"))
        );
    }

    #[test]
    fn a_user_assigned_identity_has_no_principal_above_it() {
        let user = UserAssignedConfig { principal_id: "p".into(), client_id: "c".into() };
        let config = IdentityConfig {
            user_assigned: BTreeMap::from([("/Subscriptions/S/x".to_owned(), user)]),
            ..IdentityConfig::default()
        };
        let filled = config.fill(given("UserAssigned", &["/subscriptions/s/x"]), "p");
        assert_eq!((filled.principal_id, filled.tenant_id), (None, None));
        let user = &filled.user_assigned_identities["/subscriptions/s/x"];
        assert_eq!((user.principal_id.as_deref(), user.client_id.as_deref()), (Some("p"), Some("c")));
        assert_eq!(filled.origin.as_deref(), Some("configured"));
        assert_eq!(config.fill(given("None", &[]), "p").principal_id, None);
    }
}
