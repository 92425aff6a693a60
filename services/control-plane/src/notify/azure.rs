//! Event Grid about blobs that were created: its own schema, and CloudEvents 1.0 (Event Grid, "Webhook event
//! delivery"; CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery").

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use transship_model::{BlobName, ContainerUrl};
use url::Url;

use super::{NotifyError, events, json as parse};

const FORM: &str = "an event of Event Grid: expected a JSON array of events, or one CloudEvent";
const BLOB_CREATED: &str = "Microsoft.Storage.BlobCreated";
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

/// The longest address, origin or code that is taken, in bytes.
const MAX_TEXT: usize = 4096;

/// A blob that somebody says has arrived, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHint {
    url: Url,
}

impl BlobHint {
    /// The blob `name` in `container`.
    pub fn new(container: &ContainerUrl, name: &BlobName) -> Self {
        let mut url = container.as_url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(name.as_str().split('/'));
        }
        Self { url }
    }

    /// The address `text` of a blob. A query, where a SAS token would be, is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let mut url: Url = (text.len() <= MAX_TEXT).then(|| text.parse().ok()).flatten()?;
        let fits = matches!(url.scheme(), "https" | "http" | "file") && url.username().is_empty();
        if !fits || url.password().is_some() {
            return None;
        }
        url.set_query(None);
        url.set_fragment(None);
        Some(Self { url })
    }

    /// The blob's name, where it is in `container`.
    pub fn blob_in(&self, container: &ContainerUrl) -> Option<BlobName> {
        let container = container.as_url();
        let same = self.url.scheme() == container.scheme()
            && self.url.host() == container.host()
            && self.url.port_or_known_default() == container.port_or_known_default();
        let rest = self.url.path().strip_prefix(container.path()).filter(|_| same)?.strip_prefix('/')?;
        percent_decode_str(rest).decode_utf8().ok()?.parse().ok()
    }
}

/// What a delivery of Event Grid asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventGrid {
    /// To prove that the subscription is wanted: this body is the answer, with status 200.
    Validate(String),
    /// To look at these blobs. Events of other kinds are left out.
    Blobs(Vec<BlobHint>),
}

/// Reads a delivery of Event Grid, in either schema.
///
/// # Errors
/// [`NotifyError`] where it is too large, or none.
pub fn event_grid(body: &[u8]) -> Result<EventGrid, NotifyError> {
    let value = parse(body, FORM)?;
    let events = match events(&value)? {
        Some(events) => events,
        None if value.get("specversion").is_some() => std::slice::from_ref(&value),
        None => return Err(NotifyError::Form(FORM)),
    };
    if !events.iter().all(Value::is_object) {
        return Err(NotifyError::Form(FORM));
    }
    let code = events.iter().find(|event| text(event, "eventType") == Some(VALIDATION));
    if let Some(event) = code {
        let code = event.get("data").and_then(|data| text(data, "validationCode"));
        let code =
            code.ok_or(NotifyError::Form("a validation event of Event Grid: it has no validationCode"))?;
        return Ok(EventGrid::Validate(json!({ "validationResponse": code }).to_string()));
    }
    Ok(EventGrid::Blobs(events.iter().filter_map(blob).collect()))
}

fn blob(event: &Value) -> Option<BlobHint> {
    // `eventType` in Event Grid's schema, `type` in CloudEvents.
    let kind = text(event, "eventType").or_else(|| text(event, "type"))?;
    (kind == BLOB_CREATED).then(|| BlobHint::parse(text(event.get("data")?, "url")?)).flatten()
}

/// The text at `key`, where it is short enough to be looked at.
fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| text.len() <= MAX_TEXT)
}

/// The headers that answer the `OPTIONS` request with which a sender of CloudEvents asks whether it may send:
/// `origin` is its `WebHook-Request-Origin`, `rate` its `WebHook-Request-Rate`. `None` where it named no origin, and
/// the answer is 400.
pub fn cloud_events_handshake(
    origin: Option<&str>,
    rate: Option<&str>,
) -> Option<Vec<(&'static str, String)>> {
    let fits = |text: &&str| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
    };
    let mut headers = vec![("WebHook-Allowed-Origin", origin.filter(fits)?.to_owned())];
    if rate.is_some() {
        headers.push(("WebHook-Allowed-Rate", "*".to_owned()));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(body: &Value) -> Vec<String> {
        match event_grid(body.to_string().as_bytes()).unwrap() {
            EventGrid::Blobs(hints) => hints.into_iter().map(|hint| hint.url.to_string()).collect(),
            EventGrid::Validate(_) => panic!("no validation was asked for"),
        }
    }

    #[test]
    fn blobs_are_found_in_both_schemas_and_other_events_are_left_out() {
        let url = "https://acct.blob.core.windows.net/inbox/a/b.tar";
        let ours = json!({ "id": "1", "eventType": BLOB_CREATED, "subject": "/x", "data": { "api": "PutBlockList", "url": url } });
        let other = json!({ "eventType": "Microsoft.Storage.BlobDeleted", "data": { "url": url } });
        assert_eq!(hints(&json!([ours, other, {}, { "eventType": 3 }])), [url]);
        let cloud = json!({ "specversion": "1.0", "type": BLOB_CREATED, "data": { "url": url } });
        assert_eq!(hints(&cloud), [url]);
        assert_eq!(hints(&json!([cloud.clone(), cloud])), [url, url], "a batch");
        assert!(hints(&json!([])).is_empty());
    }

    #[test]
    fn a_subscription_is_validated_with_the_code_that_it_sent() {
        let code = "512d38b6-c7b8-40c8-89fe-f46f9e9622b6";
        let body = json!([{ "eventType": VALIDATION, "data": { "validationCode": code, "validationUrl": "https://x" } }]);
        let answer = EventGrid::Validate(format!("{{\"validationResponse\":\"{code}\"}}"));
        assert_eq!(event_grid(body.to_string().as_bytes()), Ok(answer));
        let without = json!([{ "eventType": VALIDATION, "data": {} }]).to_string();
        assert!(matches!(event_grid(without.as_bytes()), Err(NotifyError::Form(_))));
    }

    #[test]
    fn hostile_deliveries_are_refused_or_hold_no_hint() {
        for body in ["", "x", "3", "null", "{}", r#"{"events":[]}"#, "[1]", r#"["x"]"#, &"[".repeat(10_000)] {
            assert!(event_grid(body.as_bytes()).is_err(), "{body:.30}");
        }
        assert!(matches!(event_grid(&vec![b' '; super::super::MAX_BODY + 1]), Err(NotifyError::TooLarge(_))));
        let many = Value::Array(vec![json!({}); 5_001]).to_string();
        assert_eq!(event_grid(many.as_bytes()), Err(NotifyError::TooMany(5_001)));
        for url in [
            "",
            "x",
            "javascript:x",
            "ftp://h/c/b",
            "https://u:p@h/c/b",
            &format!("https://h/{}", "a".repeat(5_000)),
        ] {
            assert!(
                hints(&json!([{ "eventType": BLOB_CREATED, "data": { "url": url } }])).is_empty(),
                "{url:.40}"
            );
        }
        let with_token = BlobHint::parse("https://h/c/b?sig=CANARY#CANARY").unwrap();
        assert!(!format!("{with_token:?}").contains("CANARY"));
    }

    #[test]
    fn a_hint_is_about_a_blob_of_exactly_one_container() {
        for (container, url, expected) in [
            (
                "https://a.blob.core.windows.net/c",
                "https://A.blob.core.windows.net/c/d/b.tar",
                Some("d/b.tar"),
            ),
            ("https://a.blob.core.windows.net/c", "https://a.blob.core.windows.net:443/c/b", Some("b")),
            (
                "https://a.blob.core.windows.net/c",
                "https://a.blob.core.windows.net/c/%C3%BC%20b",
                Some("ü b"),
            ),
            ("https://a.blob.core.windows.net/c", "https://a.blob.core.windows.net/cc/b", None),
            ("https://a.blob.core.windows.net/c", "https://b.blob.core.windows.net/c/b", None),
            ("https://a.blob.core.windows.net/c", "http://a.blob.core.windows.net/c/b", None),
            ("https://a.blob.core.windows.net/c", "https://a.blob.core.windows.net/c/", None),
            ("https://a.blob.core.windows.net/c", "https://a.blob.core.windows.net/c/a%00b", None),
            ("http://127.0.0.1:10000/acct/c", "http://127.0.0.1:10000/acct/c/b", Some("b")),
            ("file:///tmp/c", "file:///tmp/c/b", Some("b")),
        ] {
            let hint = BlobHint::parse(url).unwrap();
            let found = hint.blob_in(&container.parse().unwrap());
            assert_eq!(found.as_ref().map(BlobName::as_str), expected, "{container} {url}");
        }
        for (container, name) in
            [("https://h/c", "a/ü b?#%.tar"), ("http://127.0.0.1:1/a/c", "b"), ("file:///t", "b")]
        {
            let (container, name): (ContainerUrl, BlobName) =
                (container.parse().unwrap(), name.parse().unwrap());
            assert_eq!(BlobHint::new(&container, &name).blob_in(&container), Some(name));
        }
    }

    #[test]
    fn a_sender_of_cloud_events_is_told_that_it_may_send() {
        let answer = cloud_events_handshake(Some("eventgrid.azure.net"), Some("120")).unwrap();
        let allowed = ("WebHook-Allowed-Origin", "eventgrid.azure.net".to_owned());
        assert_eq!(answer, [allowed.clone(), ("WebHook-Allowed-Rate", "*".to_owned())]);
        assert_eq!(cloud_events_handshake(Some("eventgrid.azure.net"), None), Some(vec![allowed]));
        for origin in [None, Some(""), Some("a\r\nSet-Cookie: x"), Some("a b")] {
            assert_eq!(cloud_events_handshake(origin, None), None, "{origin:?}");
        }
    }
}
