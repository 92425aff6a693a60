//! What is asked of whom for a token: a pure function of the platform and the identity; and what the answer
//! holds. ("How to use managed identities on a VM"; "App Service managed identity REST"; RFC 7523 for workload.)

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use transship_model::{Identity, Secret};
use url::Url;

use super::IdentityError;
use super::platform::{AppService, Platform, Workload};

/// The longest that a token is kept, whatever its answer says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How a token is asked for.
#[derive(Debug)]
pub(super) enum TokenRequest {
    /// An endpoint beside the process answers by where the request comes from.
    Nearby {
        url: Url,
        /// Name and value of the header that the endpoint wants to see.
        header: (&'static str, Secret),
    },
    /// Microsoft Entra takes the pod's own token for one of the identity.
    Exchange { url: Url, client: String, token_file: PathBuf, scope: String },
}

/// Whom to ask for a token of `identity` for `audience` (`https://vault.azure.net`), and what.
pub(super) fn plan_token(
    platform: &Platform,
    identity: &Identity,
    audience: &str,
) -> Result<TokenRequest, IdentityError> {
    match (&platform.workload, identity) {
        (Some(workload), Identity::System) => {
            let client = workload.client.as_deref().ok_or(missing("AZURE_CLIENT_ID"))?;
            exchange(platform, workload, client, audience)
        }
        (Some(workload), Identity::Client(client)) => exchange(platform, workload, client, audience),
        // A resource id means nothing to Microsoft Entra: only the machine knows it.
        _ => Ok(nearby(platform, identity, audience)),
    }
}

fn missing(missing: &'static str) -> IdentityError {
    IdentityError::Incomplete { missing }
}

fn exchange(
    platform: &Platform,
    workload: &Workload,
    client: &str,
    audience: &str,
) -> Result<TokenRequest, IdentityError> {
    let tenant = workload.tenant.as_deref().ok_or(missing("AZURE_TENANT_ID"))?;
    let mut url = platform.authority.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend([tenant, "oauth2", "v2.0", "token"]);
    }
    Ok(TokenRequest::Exchange {
        url,
        client: client.to_owned(),
        token_file: workload.token_file.clone(),
        scope: format!("{audience}/.default"),
    })
}

fn nearby(platform: &Platform, identity: &Identity, audience: &str) -> TokenRequest {
    let (mut url, version, resource_key, header) = match &platform.app_service {
        Some(AppService { endpoint, header }) => {
            (endpoint.clone(), "2019-08-01", "mi_res_id", ("x-identity-header", header.clone()))
        }
        None => {
            let mut url = platform.metadata.clone();
            url.set_path("/metadata/identity/oauth2/token");
            // It shows that no forwarded request is answered (a request forgery cannot set a header).
            (url, "2018-02-01", "msi_res_id", ("metadata", Secret::new("true")))
        }
    };
    let mut query = url.query_pairs_mut();
    query.append_pair("api-version", version).append_pair("resource", audience);
    match identity {
        Identity::System => {}
        Identity::Client(id) => drop(query.append_pair("client_id", id)),
        Identity::Resource(id) => drop(query.append_pair(resource_key, id)),
    }
    drop(query);
    TokenRequest::Nearby { url, header }
}

/// A token as it was given.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: Secret,
    /// How long it is good for from now on; zero where the answer does not say.
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    /// Seconds; the endpoints beside a process write it as text.
    expires_in: Option<Number>,
    /// Seconds since 1970, as text. App Service has only this.
    expires_on: Option<Number>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Plain(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// The token in an answer at the time `now` (since 1970), where there is one.
pub(super) fn read_answer(body: &[u8], now: Duration) -> Option<Granted> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let text = answer.access_token.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let seconds = |number: &Option<Number>| number.as_ref().and_then(Number::value).map(Duration::from_secs);
    let life = seconds(&answer.expires_in)
        .or_else(|| seconds(&answer.expires_on).map(|moment| moment.saturating_sub(now)))
        .unwrap_or_default();
    Some(Granted { token: answer.access_token, life: life.min(LONGEST_LIFE) })
}

/// The error codes of a refusal: `invalid_client AADSTS700213`. Nothing else of the answer is shown, since it
/// may repeat what was sent.
pub(super) fn read_refusal(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Refusal {
        error: String,
        error_codes: Vec<u32>,
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let is_code = |code: &str| {
        (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut shown = if is_code(&refusal.error) { refusal.error } else { format!("HTTP {status}") };
    for code in refusal.error_codes.iter().take(3) {
        shown.push_str(&format!(" AADSTS{code}"));
    }
    shown
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
