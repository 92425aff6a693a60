//! Tokens of issuers, such as Microsoft Entra: JSON Web Tokens that are signed with RS256 and nothing else.

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::keys::Keys;
use super::{Caller, Role};
use crate::refusal::Refusal;

/// The longest token that is looked at, in bytes. Those of Microsoft Entra have 1 to 3 KiB.
const MAX_TOKEN: usize = 16 << 10;
/// How much clocks may differ, in seconds.
const LEEWAY: u64 = 60;

/// An issuer of tokens, such as a Microsoft Entra tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The claim `iss`, such as `https://login.microsoftonline.com/TENANT/v2.0`.
    pub issuer: String,
    /// What the claim `aud` may be: at least one.
    pub audiences: Vec<String>,
    /// The URL of the issuer's keys (a JSON Web Key Set). One of `jwks_url` and `jwks_file` must be set.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// A file that holds the issuer's keys.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// The roles (claim `roles`) and scopes (claim `scp`) that make a reader.
    #[serde(default)]
    pub readers: Vec<String>,
    /// The roles and scopes that make a notifier, who tells of blobs and pushes and does nothing else.
    #[serde(default)]
    pub notifiers: Vec<String>,
    /// The roles and scopes that make a contributor.
    #[serde(default)]
    pub contributors: Vec<String>,
}

/// The issuers that are trusted.
pub(super) struct Issuers(Vec<(IssuerConfig, Keys)>);

/// The claims that matter here, beside those that the library checks.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    roles: Vec<String>,
    /// Scopes, with spaces between them.
    #[serde(default)]
    scp: Option<String>,
    /// Names for people, the best first.
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    appid: Option<String>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    sub: Option<String>,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

impl Issuers {
    pub(super) fn new(configs: &[IssuerConfig]) -> Result<Self, String> {
        let one = |config: &IssuerConfig| {
            let name = &config.issuer;
            if config.audiences.is_empty() {
                return Err(format!("{name} needs at least one of audiences"));
            }
            if config.readers.is_empty() && config.notifiers.is_empty() && config.contributors.is_empty() {
                return Err(format!(
                    "{name} needs readers, notifiers or contributors: else nobody may do anything"
                ));
            }
            let keys = Keys::new(config.jwks_url.as_deref(), config.jwks_file.clone());
            Ok((config.clone(), keys.map_err(|problem| format!("{name}: {problem}"))?))
        };
        configs.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token this is.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        let invalid = |why: &str| {
            let message = format!("The token is not valid: {why}.");
            Refusal::new(401, "InvalidAuthenticationToken", message)
        };
        let unknown = || {
            let message =
                "The token is not known here: check that it is of this control plane and was not replaced.";
            Refusal::new(401, "AuthenticationFailed", message)
        };
        if self.is_empty() || token.len() > MAX_TOKEN {
            return Err(unknown());
        }
        let header = decode_header(token).map_err(|_| unknown())?;
        if header.alg != Algorithm::RS256 {
            return Err(invalid("only signatures with RS256 are taken"));
        }
        // Which issuer it claims to be from only says whose keys to check it with.
        let claimed: Issued = jsonwebtoken::dangerous::insecure_decode::<Issued>(token)
            .map_err(|_| invalid("its claims cannot be read"))?
            .claims;
        let (config, keys) =
            self.0.iter().find(|(config, _)| config.issuer == claimed.iss).ok_or_else(|| {
                invalid("its issuer is not in auth.issuers of the control plane's configuration")
            })?;
        let key_id = header.kid.ok_or_else(|| invalid("it names no key (kid)"))?;
        let key = keys.find(&key_id).await.map_err(|problem| {
            tracing::warn!(issuer = config.issuer, "the issuer's keys cannot be had: {problem}");
            let message = "The keys of the token's issuer cannot be had now. Try again; the control plane's log says why.";
            Refusal::new(503, "IssuerUnavailable", message)
        })?;
        let key = key.ok_or_else(|| invalid("its issuer has no such key"))?;
        let claims = verified(config, token, &key).map_err(|why| invalid(&why))?;
        grant(config, claims)
    }
}

fn verified(config: &IssuerConfig, token: &str, key: &DecodingKey) -> Result<Claims, String> {
    use jsonwebtoken::errors::ErrorKind;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&config.audiences);
    rules.set_issuer(&[&config.issuer]);
    rules.set_required_spec_claims(&["exp", "aud", "iss"]);
    rules.validate_nbf = true;
    rules.leeway = LEEWAY;
    decode::<Claims>(token, key, &rules).map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired: get a new one".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet: check the clocks".to_owned(),
        ErrorKind::InvalidAudience => format!("its audience is not {}", config.audiences.join(" or ")),
        ErrorKind::InvalidSignature => "its signature does not match".to_owned(),
        _ => "its signature or a claim is wrong".to_owned(),
    })
}

/// The role that the claims give.
fn grant(config: &IssuerConfig, claims: Claims) -> Result<Caller, Refusal> {
    let scopes = claims.scp.as_deref().unwrap_or_default();
    let given: Vec<&str> = claims.roles.iter().map(String::as_str).chain(scopes.split(' ')).collect();
    let has = |names: &[String]| names.iter().any(|name| given.contains(&name.as_str()));
    let role = match (has(&config.contributors), has(&config.readers), has(&config.notifiers)) {
        (true, ..) => Role::Contributor,
        (false, true, _) => Role::Reader,
        (false, false, true) => Role::Notifier,
        (false, false, false) => {
            let message = format!(
                "The token is valid, but none of its roles and scopes may do anything here. Assign one of: {}.",
                [&*config.readers, &*config.notifiers, &*config.contributors].concat().join(", ")
            );
            return Err(Refusal::new(403, "AuthorizationFailed", message));
        }
    };
    let names = [claims.preferred_username, claims.appid, claims.azp, claims.oid, claims.sub];
    let name = names.into_iter().flatten().next().unwrap_or_else(|| "unnamed".to_owned());
    let name = name.chars().filter(|c| !c.is_control()).take(128).collect();
    Ok(Caller { name, role })
}

#[cfg(test)]
#[path = "entra_tests.rs"]
mod tests;
