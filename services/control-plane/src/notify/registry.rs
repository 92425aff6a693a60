//! Registries about tags that were pushed: the envelope of the CNCF distribution registry, and the webhook of
//! Azure Container Registry.

use serde_json::Value;
use transship_model::{Digest, Repository, Tag};

use super::{NotifyError, events, json};

const FORM: &str = "a push notification: expected the events of a distribution registry, or a webhook of ACR";

/// A tag that somebody says was pushed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushHint {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
    /// The digest that it was pushed with.
    pub digest: Option<Digest>,
    /// The host that it was pushed to, as the registry calls itself.
    pub host: Option<String>,
}

/// Reads a push notification, in either form. A ping, a push without a tag (a blob, a manifest by its digest), a
/// deletion and anything with a name that breaks the grammar give no hint.
///
/// # Errors
/// [`NotifyError`] where it is too large, or none.
pub fn registry_push(body: &[u8]) -> Result<Vec<PushHint>, NotifyError> {
    let value = json(body, FORM)?;
    match value.get("events") {
        Some(inner) => {
            let events = events(inner)?.ok_or(NotifyError::Form(FORM))?;
            Ok(events.iter().filter_map(push).collect())
        }
        None if value.get("action").is_some_and(Value::is_string) => Ok(push(&value).into_iter().collect()),
        None => Err(NotifyError::Form(FORM)),
    }
}

fn push(event: &Value) -> Option<PushHint> {
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let target = event.get("target").filter(|_| text(event, "action").as_deref() == Some("push"))?;
    Some(PushHint {
        repository: text(target, "repository")?.parse().ok()?,
        tag: text(target, "tag")?.parse().ok()?,
        digest: text(target, "digest").and_then(|digest| digest.parse().ok()),
        host: event
            .get("request")
            .and_then(|request| text(request, "host"))
            .filter(|host| (1..=260).contains(&host.len())),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hints(body: &Value) -> Vec<String> {
        let hints = registry_push(body.to_string().as_bytes()).unwrap();
        hints.into_iter().map(|hint| format!("{}:{}", hint.repository, hint.tag)).collect()
    }

    #[test]
    fn the_envelope_of_distribution_gives_its_tags() {
        let digest = Digest::sha256(b"x");
        let target = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 708, "digest": digest,
            "length": 708, "repository": "team/app", "url": "http://r/v2/team/app/manifests/x", "tag": "v1",
        });
        let blob =
            json!({ "mediaType": "application/octet-stream", "digest": digest, "repository": "team/app" });
        let request = json!({ "id": "1", "addr": "10.0.0.1:1", "host": "r.example:5000", "method": "PUT" });
        let body = json!({ "events": [
            { "id": "1", "action": "push", "target": target, "request": request },
            { "id": "2", "action": "push", "target": blob, "request": request },
            { "id": "3", "action": "pull", "target": target, "request": request },
            { "id": "4", "action": "delete", "target": target },
        ] });
        let found = registry_push(body.to_string().as_bytes()).unwrap();
        let expected = PushHint {
            repository: "team/app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Some(digest),
            host: Some("r.example:5000".to_owned()),
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn the_webhook_of_acr_gives_its_tag_and_a_ping_gives_none() {
        let target = json!({ "mediaType": "x/y", "size": 524, "repository": "hello-world", "tag": "v1" });
        let push = json!({ "id": "1", "timestamp": "2026-01-01T00:00:00Z", "action": "push", "target": target,
            "request": { "id": "2", "host": "contoso.azurecr.io", "method": "PUT", "useragent": "docker" } });
        assert_eq!(hints(&push), ["hello-world:v1"]);
        assert!(
            hints(&json!({ "id": "1", "timestamp": "2026-01-01T00:00:00Z", "action": "ping" })).is_empty()
        );
        assert!(hints(&json!({ "action": "delete", "target": target })).is_empty());
    }

    #[test]
    fn hostile_notifications_are_refused_or_hold_no_hint() {
        for body in
            ["", "x", "[]", "3", "{}", r#"{"events":{}}"#, r#"{"action":1}"#, &"{\"a\":".repeat(5_000)]
        {
            assert!(registry_push(body.as_bytes()).is_err(), "{body:.30}");
        }
        let many = json!({ "events": vec![json!({}); 5_001] }).to_string();
        assert_eq!(registry_push(many.as_bytes()), Err(NotifyError::TooMany(5_001)));
        assert!(matches!(
            registry_push(&vec![b' '; super::super::MAX_BODY + 1]),
            Err(NotifyError::TooLarge(_))
        ));
        for (repository, tag) in [
            (json!("../etc"), json!("v1")),
            (json!("Team/App"), json!("v1")),
            (json!("a"), json!("../x")),
            (json!("a"), json!("")),
            (json!("a"), json!(null)),
            (json!(["a"]), json!("v1")),
            (json!("a".repeat(300)), json!("v1")),
        ] {
            let body = json!({ "action": "push", "target": { "repository": repository, "tag": tag } });
            assert!(hints(&body).is_empty(), "{body:.80}");
        }
    }
}
