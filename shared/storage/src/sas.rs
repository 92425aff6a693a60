//! Shared access signatures ("Create a service SAS", "Create an account SAS", "Create a user delegation SAS"),
//! read locally, so that an expired or insufficient token is named before any work starts.

use jiff::Timestamp;
use transship_model::{ContainerUrl, Secret};
use url::form_urlencoded;

use crate::sas_fault::kind_of;
use crate::{SasFault, StorageError};

/// A SAS token. What it grants can be asked; the token itself is shown to nobody but the service.
#[derive(Clone)]
pub struct SasToken {
    query: Secret,
    permissions: Option<String>,
    stored_policy: bool,
    resource: Option<String>,
    services: Option<String>,
    resource_types: Option<String>,
    start: Option<Timestamp>,
    expiry: Option<Timestamp>,
    https_only: bool,
}

/// Why a secret is not a SAS token. Never holds a part of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// Nothing in it.
    #[error("the secret is empty; expected a SAS token, as in `sv=…&sp=…&se=…&sig=…`")]
    Empty,
    /// A whole URL.
    #[error("the secret is a URL; expected only its SAS token, which is what follows the `?`")]
    Url,
    /// An account key or a connection string.
    #[error("the secret has no `sig`; expected a SAS token, not an account key or a connection string")]
    NoSignature,
    /// White space, control characters or something beyond ASCII inside.
    #[error("the secret holds characters that a SAS token cannot have")]
    Characters,
    /// A field that is not of a SAS token, or is there twice.
    #[error("the secret holds a field that a SAS token does not have, or has once only")]
    Field,
}

impl SasToken {
    /// Reads a token of either kind, with or without a leading `?` and white space around it. A `+` is taken as itself, since a signature that was
    /// pasted unescaped has it and no field has a space.
    ///
    /// # Errors
    /// Where the text is something else; the error does not repeat it.
    pub fn parse(secret: &Secret) -> Result<Self, SasError> {
        let text = secret.expose();
        let text = text.strip_prefix('?').unwrap_or(text).trim_start();
        if text.is_empty() {
            return Err(SasError::Empty);
        }
        if text.contains("://") {
            return Err(SasError::Url);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(SasError::Characters);
        }
        let escaped = text.replace('+', "%2B");
        let fields: Vec<_> = form_urlencoded::parse(escaped.as_bytes()).collect();
        check_keys(&fields)?;
        let field =
            |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.to_string());
        field("sig").filter(|signature| !signature.is_empty()).ok_or(SasError::NoSignature)?;
        Ok(Self {
            query: Secret::new(
                &form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish(),
            ),
            permissions: field("sp").filter(|letters| are_letters(letters)),
            stored_policy: field("si").is_some(),
            resource: field("sr").filter(|letters| are_letters(letters)),
            services: field("ss").filter(|letters| are_letters(letters)),
            resource_types: field("srt").filter(|letters| are_letters(letters)),
            start: field("st").as_deref().and_then(moment),
            expiry: field("se").as_deref().and_then(moment),
            https_only: field("spr").as_deref() == Some("https"),
        })
    }

    /// The token as a query, escaped, for the one request that needs it.
    pub(crate) fn query(&self) -> &Secret {
        &self.query
    }

    /// The letters of `sp`; empty where a stored access policy grants them.
    pub fn granted(&self) -> &str {
        self.permissions.as_deref().unwrap_or_default()
    }

    /// The time of `se`, where it is not after `now`. A token whose stored access policy sets the time has none.
    pub fn expired_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.expiry.filter(|expiry| *expiry <= now)
    }

    /// The time of `se`, where the token has one.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expiry
    }

    /// Those of `letters` that `sp` does not have, in their order. With a stored access policy nothing is
    /// known locally, so nothing is missing.
    pub fn missing(&self, letters: &str) -> String {
        if self.permissions.is_none() && self.stored_policy {
            return String::new();
        }
        letters.chars().filter(|letter| !self.granted().contains(*letter)).collect()
    }

    /// Whether the token can do what a caller is about to begin: `letters` in `container`, for `purpose`
    /// ("reading blobs"). Called before work starts, so that a run does not fail in its middle.
    ///
    /// # Errors
    /// [`StorageError::SasExpired`], [`StorageError::SasPermission`], or [`StorageError::SasUnfit`] where the
    /// token is for another service, kind of resource, protocol or time.
    pub fn check(
        &self,
        now: Timestamp,
        letters: &str,
        purpose: &'static str,
        container: &ContainerUrl,
    ) -> Result<(), StorageError> {
        if let Some(expired_at) = self.expired_at(now) {
            return Err(self.expired(expired_at, container));
        }
        if let Some(missing) = self.lacking(letters, purpose, container) {
            return Err(missing);
        }
        match self.mismatch(now, letters, container) {
            Some(fault) => Err(StorageError::SasUnfit { container: container.clone(), fault }),
            None => Ok(()),
        }
    }

    pub(crate) fn expired(&self, expired_at: Timestamp, container: &ContainerUrl) -> StorageError {
        StorageError::SasExpired { container: container.clone(), expired_at: expired_at.to_string() }
    }

    /// The error that names the missing letters, where some are missing.
    pub(crate) fn lacking(
        &self,
        letters: &str,
        purpose: &'static str,
        container: &ContainerUrl,
    ) -> Option<StorageError> {
        let missing = self.missing(letters);
        (!missing.is_empty()).then(|| StorageError::SasPermission {
            container: container.clone(),
            missing,
            granted: self.granted().to_owned(),
            needed_for: purpose,
        })
    }

    /// What else of the token does not fit: time of start, protocol, service, kind of resource. What a token
    /// does not say, the service decides.
    pub(crate) fn mismatch(
        &self,
        now: Timestamp,
        letters: &str,
        container: &ContainerUrl,
    ) -> Option<SasFault> {
        let lists = letters.contains('l');
        let on_blobs = letters.chars().any(|letter| letter != 'l');
        if let Some(start) = self.start.filter(|start| *start > now) {
            return Some(SasFault::NotYetValid { start });
        }
        if self.https_only && container.as_url().scheme() == "http" {
            return Some(SasFault::HttpsOnly);
        }
        if self.services.as_deref().is_some_and(|services| !services.contains('b')) {
            return Some(SasFault::Service);
        }
        if let Some(types) = &self.resource_types {
            for (needed, missing) in [(on_blobs, 'o'), (lists, 'c')] {
                if needed && !types.contains(missing) {
                    return Some(SasFault::ResourceType { missing });
                }
            }
        }
        let resource = self.resource.as_deref().filter(|resource| *resource != "c")?;
        Some(SasFault::Resource { resource: resource.to_owned(), kind: kind_of(resource) })
    }
}

impl std::fmt::Debug for SasToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden SAS token]")
    }
}

/// Every field of a SAS token begins with `s` or `rsc`, and is there once. What begins otherwise (`comp`,
/// `restype`, `timeout`) would change what a request means, as would `snapshot`.
fn check_keys(fields: &[(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)]) -> Result<(), SasError> {
    for (index, (key, _)) in fields.iter().enumerate() {
        let known = (key.starts_with('s') && key != "snapshot") || key.starts_with("rsc");
        let letters = key.len() <= 16 && key.chars().all(|c| c.is_ascii_alphabetic());
        let twice = fields[..index].iter().any(|(earlier, _)| earlier == key);
        if twice || (!known || !letters) && fields.iter().any(|(name, _)| name == "sig") {
            return Err(SasError::Field);
        }
    }
    Ok(())
}

fn are_letters(text: &str) -> bool {
    text.len() <= 32 && text.chars().all(|c| c.is_ascii_lowercase())
}

/// `2026-11-22`, `2026-11-22T10:00Z`, `2026-11-22T10:00:00Z`, with or without a fraction.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "sv=2021-12-02&sr=c&sp=racwl&se=2026-11-22T10%3A00%3A00Z&sig=aB%2Bc%2Fd%3D";

    fn token(text: &str) -> SasToken {
        SasToken::parse(&Secret::new(text)).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn container() -> ContainerUrl {
        "https://a.blob.core.windows.net/c".parse().unwrap()
    }

    #[test]
    fn an_expiry_is_read_in_each_of_its_forms() {
        for (text, expected) in [
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("2026-11-22T10:00Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00:00.0000000Z", "2026-11-22T10:00:00Z"),
        ] {
            assert_eq!(moment(text), Some(at(expected)), "{text}");
        }
        assert_eq!(moment("tomorrow"), None);
    }

    #[test]
    fn a_signature_that_was_pasted_unescaped_is_sent_escaped() {
        assert_eq!(token("?sv=1&sp=r&sig=a+b/c=").query().expose(), "sv=1&sp=r&sig=a%2Bb%2Fc%3D");
        assert_eq!(token(TOKEN).query().expose(), TOKEN);
    }

    #[test]
    fn what_is_not_a_token_is_refused_without_repeating_it() {
        for (text, expected) in [
            ("", SasError::Empty),
            ("?", SasError::Empty),
            ("https://a.blob.core.windows.net/c?sig=CANARY", SasError::Url),
            ("CANARYkeyCANARY==", SasError::NoSignature),
            ("AccountName=a;AccountKey=CANARY", SasError::NoSignature),
            ("sp=r&sig=", SasError::NoSignature),
            ("sp=r&sig=CANARY x", SasError::Characters),
            ("sp=r&sig=CANARY#", SasError::Characters),
            ("sp=r&sig=CANARY&sig=CANARY", SasError::Field),
            ("sp=r&sig=CANARY&comp=metadata", SasError::Field),
            ("sp=r&sig=CANARY&snapshot=1", SasError::Field),
        ] {
            let error = SasToken::parse(&Secret::new(text)).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!format!("{error} {error:?}").contains("CANARY"));
        }
    }

    #[test]
    fn a_check_names_what_is_wrong_before_work_starts() {
        let now = at("2026-11-22T09:59:59Z");
        let check = |text: &str, now, letters| token(text).check(now, letters, "writing blobs", &container());
        assert!(check(TOKEN, now, "rwl").is_ok());
        let expired = check(TOKEN, at("2026-11-22T10:00:00Z"), "r").unwrap_err();
        assert!(
            matches!(expired, StorageError::SasExpired { expired_at, .. } if expired_at == "2026-11-22T10:00:00Z")
        );
        let missing = check(TOKEN, now, "rwd").unwrap_err();
        assert!(
            matches!(missing, StorageError::SasPermission { missing, granted, needed_for: "writing blobs", .. } if missing == "d" && granted == "racwl")
        );
        assert!(check("si=policy&sr=c&sig=x", now, "rwdl").is_ok(), "a stored policy decides at the service");
        assert!(check("sr=c&sig=x", now, "r").is_err());
        for (text, letters, word, hint) in [
            ("sp=rl&sr=c&st=2026-11-23&sig=x", "r", "valid from", "without a start time"),
            ("sp=rl&ss=qt&srt=co&sig=x", "r", "blob service", "ss=b"),
            ("sp=rl&ss=b&srt=c&sig=x", "r", "`srt` has no o", "srt=co"),
            ("sp=rl&ss=b&srt=o&sig=x", "l", "`srt` has no c", "srt=co"),
            ("sp=rl&sr=b&sig=x", "r", "one blob, not for the container", "sr=c"),
            ("sp=rl&sr=d&sig=x", "l", "one directory, not for the container", "sr=c"),
        ] {
            let error = check(text, now, letters).unwrap_err();
            let failure = transship_model::Failure::from(error.clone());
            assert!(
                matches!(error, StorageError::SasUnfit { .. }) && failure.message.contains(word),
                "{error}"
            );
            assert!(failure.hint.unwrap().contains(hint), "{text}");
            assert_eq!(failure.class, transship_model::Class::Parked);
        }
        for (text, letters) in [
            ("?sp=rl&sr=c&sig=x", "rl"),
            ("sp=rwl&ss=b&srt=sco&spr=https&sig=x", "rwl"),
            (" ? sp=r&ss=bfqt&srt=o&sig=x\n", "r"),
            ("sp=r&sig=x", "r"),
        ] {
            assert!(check(text, now, letters).is_ok(), "{text}");
        }
        let loopback: ContainerUrl = "http://127.0.0.1:1/a/c".parse().unwrap();
        let error =
            token("sp=r&sr=c&spr=https&sig=x").check(now, "r", "reading blobs", &loopback).unwrap_err();
        assert!(error.to_string().contains("https only"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic_or_show_it(text in ".{0,200}") {
            let parsed = SasToken::parse(&Secret::new(&text));
            if text.trim().len() > 24 {
                let shown = format!("{parsed:?} {parsed:#?}");
                prop_assert!(!shown.contains(text.trim()));
            }
        }

        #[test]
        fn a_token_says_what_it_was_made_of(
            letters in "[racwdxltfmeopi]{1,12}",
            signature in "[A-Za-z0-9+/]{42,43}=",
            seconds in 0_i64..4_000_000_000,
            questioned in any::<bool>(),
        ) {
            let expiry = Timestamp::from_second(seconds).unwrap();
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("sv", "2021-12-02")
                .append_pair("sp", &letters)
                .append_pair("se", &expiry.to_string())
                .append_pair("sig", &signature)
                .finish();
            let token = token(&format!("{}{query}", if questioned { "?" } else { "" }));
            prop_assert_eq!(token.query().expose(), &query);
            prop_assert_eq!(token.granted(), &letters);
            prop_assert_eq!(token.expires_at(), Some(expiry));
            prop_assert_eq!(token.expired_at(expiry), Some(expiry));
            prop_assert_eq!(token.missing(&letters), "");
            let debug = format!("{token:?} {token:#?}");
            prop_assert!(!debug.contains(&signature));
        }
    }
}
