//! Redaction of text: the last line of defence. The first lines are types that cannot show a secret
//! (`Secret`, `SafeUrl`); this one is for the text of other people's errors.
//!
//! Three rules, from strict to loose. Of a URL, whatever it is, no password, no fragment and only those values
//! of the query are shown that an allow-list names. After names such as `sig=` or `Authorization:` the value is
//! hidden. And what has the shape of a credential is hidden wherever it stands.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands where a secret was.
pub const HIDDEN: &str = "[hidden]";

/// The keys of a query whose values are shown: what says which call it was, and what a SAS token allows and
/// until when. Everything else is hidden, whatever its name.
#[rustfmt::skip]
const SHOWN_KEYS: &[&str] = &[
    "api-version", "artifactType", "blockid", "blocklisttype", "comp", "delimiter", "digest", "from", "include",
    "last", "maxresults", "mount", "n", "prefix", "restype", "scope", "se", "service", "sp", "spr", "sr", "st",
    "sv", "timeout",
];

/// The longest name of a query's key that is shown, in bytes. What is longer is no name.
const MAX_KEY_BYTES: usize = 40;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants, and the tests of this file compile each of them")
}

static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?i)([a-z][a-z0-9+.-]*://)([^\s"'<>\\]+)"#));

static COOKIE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)(cookie\\*["']?\s*[:=]\s*(?:\\*["'])?)[^"\\\r\n]+"#));

/// The quote before a value. It may itself be quoted, as in JSON within JSON, and may stand in what `Debug` writes
/// around a string.
const OPEN: &str = r#"(?P<open>(?:[a-z]+\(|b)*\\*["'])"#;

/// Names that always go before a credential.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let names = r"authorization|password|passwd|\bpwd|account_?key|access_?key|api[_-]?key|private_?key";
    let plain = r"(?:=|:|%3d)\s*(?P<scheme>(?:bearer|basic|sharedkey(?:lite)?|negotiate)\s+)?";
    named(names, plain)
});

/// Names that prose has before a colon too ("token: the server refused it"). So a colon and a space count only
/// where a quoted value follows.
static NAMED_LIKE_PROSE: LazyLock<Regex> = LazyLock::new(|| {
    let names = r"secret|token|signature|(?:\b|%[0-9a-f]{2})(?:sig|auth)";
    named(names, r"(?:=\s*|%3d|:)(?P<scheme>)")
});

/// A name, which may be in quotes, and what separates it from its value, up to where the value begins.
fn named(names: &str, plain: &str) -> Regex {
    pattern(&format!(r#"(?i)(?:{names})(?P<quote>\\*["'])?\s*(?:(?:=|:|%3d)\s*{OPEN}|{plain})"#))
}

/// JSON web tokens, personal access tokens of well-known issuers, account keys of storage, private keys.
static SHAPED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*",
        r"|\b(?:dckr_pat_|github_pat_|ghp_|gho_|ghs_|glpat-)[A-Za-z0-9_-]{10,}",
        r"|[A-Za-z0-9+/]{86}==",
        r"|(?s:-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$))",
    ))
});

static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b((?:bearer|basic|sharedkey(?:lite)?)\s+)([a-z0-9+/._~:-]{8,}=*)"));

/// `text` without what may be a credential in it. Over-hides rather than
/// under-hides; never a reason to log a secret in the first place.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    apply(&mut out, &URL, |found| redact_url(&found[1], &found[2]));
    apply(&mut out, &COOKIE, |found| format!("{}{HIDDEN}", &found[1]));
    hide_named(&mut out, &NAMED);
    hide_named(&mut out, &NAMED_LIKE_PROSE);
    apply(&mut out, &SHAPED, |_| HIDDEN.to_owned());
    apply(&mut out, &SCHEME, |found| {
        // Plain words follow in prose ("Basic authentication"); a token is not all lower-case letters.
        let token = found[2].bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        if token { format!("{}{HIDDEN}", &found[1]) } else { found[0].to_owned() }
    });
    out
}

fn apply(text: &mut Cow<'_, str>, pattern: &Regex, replace: impl Fn(&Captures<'_>) -> String) {
    if let Cow::Owned(changed) = pattern.replace_all(text, replace)
        && changed != **text
    {
        *text = Cow::Owned(changed);
    }
}

/// A URL, cut after `scheme://`.
fn redact_url(scheme: &str, rest: &str) -> String {
    let (user, rest) = match end_of_user(scheme, rest) {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    let mut shown = match user.map(|user| user.split_once(':')) {
        None => scheme.to_owned(),
        Some(Some((name, _))) => format!("{scheme}{name}:{HIDDEN}@"),
        // Without a password the name may be a token.
        Some(None) => format!("{scheme}{HIDDEN}@"),
    };
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, after)| (rest, Some(after)));
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    shown.push_str(path);
    if let Some(query) = query {
        shown.push('?');
        shown.push_str(&query.split('&').map(redact_pair).collect::<Vec<_>>().join("&"));
    }
    if fragment.is_some_and(|fragment| !fragment.is_empty()) {
        shown.push('#');
        shown.push_str(HIDDEN);
    }
    shown
}

/// Where the `@` after user and password stands. People forget to encode passwords, so one may hold `/`, `?`,
/// `#` and `@`: the last `@` counts that does not begin a digest, as in `https://registry/repository@sha256:…`.
/// Only in HTTP, where paths may have an `@` and passwords are rare, digits before a `/` are taken for a port.
fn end_of_user(scheme: &str, rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let http = ["http://", "https://"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
    if !authority.contains('@') && (!authority.contains(':') || port && http) {
        return None;
    }
    let digest =
        |at: usize| ["sha256:", "sha384:", "sha512:"].iter().any(|name| rest[at + 1..].starts_with(name));
    rest.rmatch_indices('@').map(|(at, _)| at).find(|at| !digest(*at))
}

fn redact_pair(pair: &str) -> Cow<'_, str> {
    match pair.split_once('=') {
        Some((key, _)) if SHOWN_KEYS.contains(&key) => Cow::Borrowed(pair),
        Some((key, _)) if key.len() <= MAX_KEY_BYTES => Cow::Owned(format!("{key}={HIDDEN}")),
        _ if pair.is_empty() => Cow::Borrowed(pair),
        _ => Cow::Borrowed(HIDDEN),
    }
}

/// Hides the values after names. JSON stays JSON: log lines are read by machines.
fn hide_named(text: &mut Cow<'_, str>, names: &Regex) {
    let (mut out, mut done) = (String::new(), 0);
    while let Some(found) = names.captures_at(text, done) {
        let start = found.get(0).map_or(text.len(), |name| name.end());
        let key_quote = found.name("quote").map_or("", |quote| quote.as_str());
        let rest = &text[start..];
        let (length, quote) = match found.name("open") {
            Some(open) => (quoted_length(rest, open.as_str()), ""),
            None => (plain_length(rest, !key_quote.is_empty()), key_quote),
        };
        // In JSON, what is not in quotes and is not a number is no credential.
        let nothing =
            length == 0 || !quote.is_empty() && ["null", "true", "false"].contains(&&rest[..length]);
        let shown_to =
            found.name("scheme").map_or(start, |scheme| if nothing { start } else { scheme.start() });
        out.push_str(&text[done..shown_to]);
        if !nothing {
            out.extend([quote, HIDDEN, quote]);
        }
        done = start + if nothing { 0 } else { length };
    }
    if done > 0 {
        out.push_str(&text[done..]);
        if out != **text {
            *text = Cow::Owned(out);
        }
    }
}

/// The length of a value that stands in quotes: up to the quote that closes, or one further out, or the end.
///
/// Each level of quoting doubles the backslashes and adds one before a quote. So at the level whose quotes have
/// `n` before them, a quote closes where there are `n` more than a multiple of `2 (n + 1)`.
fn quoted_length(rest: &str, open: &str) -> usize {
    let mark = if open.ends_with('\'') { '\'' } else { '"' };
    let depth = open.len() - 1 - open[..open.len() - 1].trim_end_matches('\\').len();
    let closes = rest.match_indices(mark).find_map(|(at, _)| {
        let before = at - rest[..at].trim_end_matches('\\').len();
        (before % (2 * (depth + 1)) == depth || before < depth).then_some(at - before.min(depth))
    });
    closes.or_else(|| rest.find(['"', '\\'])).unwrap_or(rest.len())
}

/// The length of a value that stands in no quotes.
fn plain_length(rest: &str, in_json: bool) -> usize {
    let ends = |c: char| c.is_whitespace() || "\"'\\&;".contains(c) || in_json && ",[]{}".contains(c);
    if rest.starts_with(HIDDEN) { 0 } else { rest.find(ends).unwrap_or(rest.len()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJlLW9mLWl0";

    #[test]
    fn credentials_are_hidden_and_what_helps_is_kept() {
        for (text, expected) in [
            (
                "PUT https://a.example/c/b?comp=block&sv=2024&se=2026-01-01&sp=rcw&sig=CANARY%2B failed",
                "PUT https://a.example/c/b?comp=block&sv=2024&se=2026-01-01&sp=rcw&sig=[hidden] failed",
            ),
            (
                "https://s3.example/b?X-Amz-Signature=CANARY&X-Amz-Credential=CANARY#CANARY",
                "https://s3.example/b?X-Amz-Signature=[hidden]&X-Amz-Credential=[hidden]#[hidden]",
            ),
            ("amqp://user:CANARY@127.0.0.1:5672/v", "amqp://user:[hidden]@127.0.0.1:5672/v"),
            ("amqps://user:CAN/ARY?@CAN#ARY@broker/v", "amqps://user:[hidden]@broker/v"),
            ("https://CANARY@host/x", "https://[hidden]@host/x"),
            ("Authorization: Bearer CANARY", "Authorization: [hidden]"),
            (r#"{"authorization": "Basic CANARY=="}"#, r#"{"authorization": "[hidden]"}"#),
            (
                r#"headers={\"authorization\":\"Bearer CANARY\"}"#,
                r#"headers={\"authorization\":\"[hidden]\"}"#,
            ),
            (
                "x-ms-copy-source-authorization: SharedKey acc:CANARY=",
                "x-ms-copy-source-authorization: [hidden]",
            ),
            (
                "AccountName=a;AccountKey=CANARY==;EndpointSuffix=x",
                "AccountName=a;AccountKey=[hidden];EndpointSuffix=x",
            ),
            (
                "Settings { password: Some(\"CAN\\\"ARY CANARY\"), port: 1 }",
                "Settings { password: Some(\"[hidden]\"), port: 1 }",
            ),
            ("sv=2024&sp=r&sig=CANARY", "sv=2024&sp=r&sig=[hidden]"),
            ("copy%3Fsv%3D1%26sig%3DCANARY%26x", "copy%3Fsv%3D1%26sig%3D[hidden]"),
            (r#"{"auth":"CANARY","token":123}"#, r#"{"auth":"[hidden]","token":"[hidden]"}"#),
            (r#"\\\"token\\\":\\\"CANARY\\\","#, r#"\\\"token\\\":\\\"[hidden]\\\","#),
            ("Set-Cookie: a=CANARY; b=CANARY", "Set-Cookie: [hidden]"),
            ("the server sent Bearer CANARYCANARY0", "the server sent Bearer [hidden]"),
            ("key -----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY----- end", "key [hidden] end"),
        ] {
            assert_eq!(redact(text), expected);
            assert_eq!(redact(expected), expected, "what is hidden stays as it is");
        }
        assert_eq!(redact(JWT), HIDDEN);
        assert_eq!(redact(&format!("refresh {JWT} refused")), "refresh [hidden] refused");
        assert_eq!(redact(&format!("key {}== x", "aB+/".repeat(22)[..86].to_owned())), "key [hidden] x");
    }

    #[test]
    fn text_without_credentials_is_left_alone() {
        for text in [
            "",
            "https://registry.example:5000/team/app@sha256:0123456789abcdef",
            "127.0.0.1:5000/team/app:v1@sha256:0123",
            "http://127.0.0.1:10000/account/container/part@2",
            "cannot refresh token: the server answered 503",
            "secret source-sas is missing",
            "the registry asks for Basic authentication",
            "Bearer realm=\"https://auth.example/token\",service=\"registry\"",
            "config=1 assignment=2 author: someone design=3",
            r#"{"token":null,"auth":{},"auth":true}"#,
            "https://h/v2/_catalog?n=100&last=x",
            "sha512:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text), "{}", redact(text));
        }
    }

    proptest! {
        #[test]
        fn a_canary_does_not_pass_in_any_known_place(
            canary in "[A-Za-z0-9+_~.-]{12,60}", place in 0_usize..12, noise in "[ -~]{0,20}",
        ) {
            let mut canary = format!("CaN4rY{canary}");
            if place == 9 {
                canary.retain(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
                canary.push_str("00000000");
            }
            let text = match place {
                0 => format!("https://h.example/p?a={canary}"),
                1 => format!("{noise} https://h.example/p?sp=r&sig={canary}&x={noise}"),
                2 => format!("amqp://user:{canary}@host:5672/vhost {noise}"),
                3 => format!("{noise}\nAuthorization: Bearer {canary}\n{noise}"),
                4 => format!("authorization={canary}"),
                5 => format!("{{\"password\":\"{canary}\",\"x\":1}}"),
                6 => format!("AccountKey={canary};x"),
                7 => format!("Headers {{ token: Some(\"{canary}\") }}"),
                8 => format!("{{\\\"identitytoken\\\":\\\"{canary}\\\"}}"),
                9 => format!("eyJ{canary}.eyJ{canary}.{canary}"),
                10 => format!("client_secret={canary}&grant_type=x"),
                _ => format!("Basic {canary}="),
            };
            let shown = redact(&text);
            prop_assert!(!shown.contains(&canary), "{shown}");
        }

        #[test]
        fn a_line_of_json_stays_json(
            key in "token|password|authorization|url|message|x", value in "[ -~]{0,40}",
            depth in 0_usize..3, number in any::<i32>(),
        ) {
            let mut inner = serde_json::json!({ key.as_str(): format!("CaN4rY{value}CaN4rY"), "sig": number, "z": [1] });
            for _ in 0..depth {
                inner = serde_json::json!({ "message": inner.to_string(), "auth": null });
            }
            let line = inner.to_string();
            let shown = redact(&line);
            let parsed = serde_json::from_str::<serde_json::Value>(&shown);
            prop_assert!(parsed.is_ok(), "{line} became {shown}");
            if ["token", "password", "authorization"].contains(&key.as_str()) {
                prop_assert!(!shown.contains("CaN4rY"), "{shown}");
            }
        }
    }
}
