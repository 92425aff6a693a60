//! What an answer of Key Vault means: the challenge, the secret, the refusals. Pure; nothing that the vault
//! wrote is shown, apart from codes made of letters.

use jiff::Timestamp;
use serde::Deserialize;
use transship_model::{Identity, Secret, VaultSecret};
use url::Url;

use super::VaultError;
use crate::http::Answer;

/// The service that a token must be for, from the vault's challenge:
/// `Bearer authorization="https://login…/TENANT", resource="https://vault.azure.net"`. Where tokens come from
/// is this process's affair, so the `authorization` of the challenge is not followed.
pub(super) fn read_challenge(secret: &VaultSecret, challenge: Option<&str>) -> Result<String, VaultError> {
    let refused =
        |problem: &str| VaultError::Challenge { secret: secret.clone(), problem: problem.to_owned() };
    let text = challenge.ok_or(refused("and does not say for which service"))?;
    let (scheme, parameters) = text.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(refused("of a kind that is not Bearer"));
    }
    let of =
        |key| parameters.split(',').filter_map(|pair| pair.trim().split_once('=')).find(|(k, _)| *k == key);
    let value = of("resource").or(of("scope")).map(|(_, value)| value.trim_matches('"'));
    let value = value.ok_or(refused("and does not say for which service"))?;
    let url: Option<Url> = value.trim_end_matches("/.default").parse().ok();
    let url = url.filter(|url| url.scheme() == "https" && url.path() == "/" && url.query().is_none());
    let host = url.as_ref().and_then(Url::host_str).ok_or(refused("for something that is not a service"))?;
    let vault = secret.host().rsplit_once(':').map_or(secret.host(), |(host, _)| host);
    // Else a vault could ask for a token that is good somewhere else, and use it there.
    let belongs = vault == host || vault.strip_suffix(host).is_some_and(|labels| labels.ends_with('.'));
    match belongs {
        true => Ok(format!("https://{host}")),
        false => {
            let host: String = host.chars().take(253).collect();
            let problem = format!("for {host}, which it does not belong to");
            Err(VaultError::Challenge { secret: secret.clone(), problem })
        }
    }
}

#[derive(Deserialize)]
struct SecretBundle {
    value: Option<Secret>,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Attributes {
    enabled: Option<bool>,
    /// Seconds since 1970.
    nbf: Option<i64>,
    exp: Option<i64>,
}

/// The secret in an answer of status 200, where it is valid at the time `now`. Key Vault gives out secrets
/// beyond their dates; whoever set the dates meant them.
pub(super) fn read_secret(wanted: &VaultSecret, body: &[u8], now: Timestamp) -> Result<Secret, VaultError> {
    let secret = || wanted.clone();
    let senseless = || VaultError::Unavailable {
        secret: secret(),
        reason: "its answer holds no secret".to_owned(),
        retry_after: None,
    };
    let SecretBundle { value, attributes } = serde_json::from_slice(body).map_err(|_| senseless())?;
    if attributes.enabled == Some(false) {
        return Err(VaultError::Disabled { secret: secret() });
    }
    let moment = |seconds: Option<i64>| seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    if let Some(from) = moment(attributes.nbf).filter(|from| *from > now) {
        return Err(VaultError::NotYetValid { secret: secret(), from: from.to_string() });
    }
    if let Some(at) = moment(attributes.exp).filter(|at| *at <= now) {
        return Err(VaultError::Expired { secret: secret(), at: at.to_string() });
    }
    let value = value.ok_or_else(senseless)?;
    if value.expose().is_empty() { Err(VaultError::Empty { secret: secret() }) } else { Ok(value) }
}

/// What an answer that is no success means.
pub(super) fn read_refusal(wanted: &VaultSecret, identity: &Identity, answer: &Answer) -> VaultError {
    let (secret, identity) = (wanted.clone(), identity.clone());
    let (outer, inner) = codes(&answer.body);
    let code = inner.clone().or(outer).unwrap_or_else(|| format!("HTTP {}", answer.status));
    match (answer.status, inner.as_deref()) {
        (403, Some("SecretDisabled")) => VaultError::Disabled { secret },
        (403, Some("ForbiddenByFirewall" | "ForbiddenByConnection")) => VaultError::Firewall { secret, code },
        (403, _) => VaultError::Forbidden { secret, identity, code },
        (401, _) => VaultError::Unauthorized { secret, identity, code },
        (404, _) => VaultError::NotFound { secret },
        _ if answer.passes() => {
            VaultError::Unavailable { secret, reason: code, retry_after: answer.retry_after }
        }
        _ => VaultError::Refused { secret, code },
    }
}

/// The codes of an error: of the answer, and the more exact one inside.
fn codes(body: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Wrapped {
        error: Refusal,
    }
    #[derive(Deserialize)]
    struct Refusal {
        code: Option<String>,
        innererror: Option<Box<Refusal>>,
    }
    let clean = |code: Option<String>| {
        code.filter(|code| (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    match serde_json::from_slice(body) {
        Ok(Wrapped { error: Refusal { code, innererror } }) => {
            (clean(code), clean(innererror.and_then(|inner| inner.code)))
        }
        Err(_) => (None, None),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
