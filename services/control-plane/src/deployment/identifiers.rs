//! Identifiers of resources of any provider, as `resourceId` makes them.

use serde_json::Value;

/// `/subscriptions/S/resourceGroups/G`.
pub(super) fn group(subscription: &str, group: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}")
}

/// The form that identifiers are compared by.
pub(super) fn key(id: &str) -> String {
    id.trim_end_matches('/').to_ascii_lowercase()
}

/// `{scope}/providers/NAMESPACE/TYPE/NAME/TYPE/NAME`, for a type such as `Microsoft.X/a/b` (one `/` behind it is
/// ignored) and as many names as it has parts; a name may hold several with `/` between them.
///
/// # Errors
/// Where their numbers differ, or a part is empty.
pub(super) fn join(scope: &str, resource_type: &str, names: &[&str]) -> Result<String, String> {
    let resource_type = resource_type.strip_suffix('/').unwrap_or(resource_type);
    let mut parts = resource_type.split('/');
    let namespace = parts.next().unwrap_or_default();
    let kinds: Vec<&str> = parts.collect();
    let names: Vec<&str> = names.iter().flat_map(|name| name.trim_end_matches('/').split('/')).collect();
    if namespace.is_empty() || kinds.is_empty() || kinds.iter().any(|kind| kind.is_empty()) {
        return Err(format!(
            "{resource_type:?} is not a type such as Microsoft.ContainerRegistry/registries"
        ));
    }
    if kinds.len() != names.len() {
        let (kinds, names) = (kinds.len(), names.len());
        return Err(format!("the type {resource_type} needs {kinds} names, and there are {names}"));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Err(format!("a name for the type {resource_type} is empty"));
    }
    let pairs = kinds.iter().zip(names).map(|(kind, name)| format!("/{kind}/{name}"));
    Ok(format!("{scope}/providers/{namespace}{}", pairs.collect::<String>()))
}

/// The name of the vault where `id` is a Key Vault.
pub(super) fn vault(id: &str) -> Option<&str> {
    let id = id.trim_end_matches('/');
    let (head, name) = id.rsplit_once('/')?;
    head.to_ascii_lowercase().ends_with("/providers/microsoft.keyvault/vaults").then_some(name)
}

/// The arguments of `resourceId` and `subscriptionResourceId`: what stands before the type, the type, the names.
///
/// # Errors
/// Where there is no type, or an argument is not a string.
pub(super) fn arguments(values: &[Value]) -> Result<(Vec<&str>, &str, Vec<&str>), String> {
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    let texts = texts.ok_or("its arguments must be strings")?;
    let at = texts.iter().position(|text| text.contains('/'));
    let at = at.ok_or("none of its arguments is a type such as Microsoft.ContainerRegistry/registries")?;
    Ok((texts[..at].to_vec(), texts[at], texts[at + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_as_many_names_as_its_type_has_parts() {
        const SCOPE: &str = "/subscriptions/s/resourceGroups/g";
        for (resource_type, names, expected) in [
            ("Microsoft.X/a", &["one"][..], Some("Microsoft.X/a/one")),
            ("Microsoft.X/a/b/", &["one", "two"], Some("Microsoft.X/a/one/b/two")),
            ("Microsoft.X/a/b", &["one/two"], Some("Microsoft.X/a/one/b/two")),
            ("Microsoft.X/a/b", &["one"], None),
            ("Microsoft.X/a", &["one", "two"], None),
            ("Microsoft.X/a", &[""], None),
            ("Microsoft.X", &[], None),
            ("Microsoft.X//b", &["one", "two"], None),
        ] {
            let id = join(SCOPE, resource_type, names).ok();
            assert_eq!(
                id,
                expected.map(|end| format!("{SCOPE}/providers/{end}")),
                "{resource_type} {names:?}"
            );
        }
    }

    #[test]
    fn a_vault_is_known_by_its_identifier() {
        let id = |kind: &str| format!("/subscriptions/s/resourceGroups/g/providers/{kind}/v1");
        assert_eq!(vault(&id("microsoft.keyvault/Vaults")), Some("v1"));
        assert_eq!(vault(&id("Microsoft.Storage/storageAccounts")), None);
        assert_eq!(vault("v1"), None);
    }
}
