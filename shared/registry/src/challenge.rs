//! `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750; the token specification of distribution). Pure.
//! Strict and bounded: what a registry sends here decides where credentials go.

use url::Url;

/// The longest header that is read, in bytes.
const MAX_HEADER: usize = 8 * 1024;
/// The most parameters in one challenge.
const MAX_PARAMETERS: usize = 16;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With name and password on every request.
    Basic,
    /// With a token of a token endpoint.
    Bearer {
        /// The token endpoint.
        realm: Url,
        /// What the endpoint calls the registry.
        service: Option<String>,
    },
}

impl Challenge {
    /// The strongest challenge in the values of all `WWW-Authenticate` headers, where there is one that
    /// transship can meet: Bearer before Basic.
    pub(crate) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let found: Vec<Self> = headers.take(8).filter_map(challenges).flatten().collect();
        let bearer = found.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(found.first()).cloned()
    }
}

/// All challenges of one header that are understood; `None` where the header breaks the grammar.
fn challenges(header: &str) -> Option<Vec<Challenge>> {
    if header.len() > MAX_HEADER || header.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        return None;
    }
    let mut rest = header.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (scheme, after) = token(rest)?;
        let (parameters, after) = parameters(after.trim_start())?;
        if let Some(challenge) = understand(scheme, &parameters)? {
            found.push(challenge);
        }
        rest = after;
    }
    Some(found)
}

type Parameters<'a> = Vec<(&'a str, String)>;

/// `Ok(None)`-like: a scheme that is not ours is skipped, a Bearer without a usable realm breaks the header.
fn understand(scheme: &str, parameters: &Parameters<'_>) -> Option<Option<Challenge>> {
    let value =
        |name: &str| parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Some(Challenge::Basic));
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Some(None);
    }
    let realm = value("realm")?.parse().ok()?;
    let service = value("service").filter(|service| !service.is_empty()).map(str::to_owned);
    Some(Some(Challenge::Bearer { realm, service }))
}

/// The parameters up to the next challenge, and what follows them.
fn parameters(mut rest: &str) -> Option<(Parameters<'_>, &str)> {
    let mut found = Parameters::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        // A token that no '=' follows begins the next challenge.
        let Some((name, value)) = rest.split_once('=').filter(|(name, _)| is_token(name.trim_end())) else {
            return Some((found, rest));
        };
        let name = name.trim_end();
        let (value, after) = parameter_value(value.trim_start())?;
        if found.len() == MAX_PARAMETERS || found.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return None;
        }
        found.push((name, value));
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text)?;
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|b| !is_token_byte(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[&str]) -> Option<Challenge> {
        Challenge::parse(headers.iter().copied())
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.parse().unwrap(), service: service.map(str::to_owned) })
    }

    #[test]
    fn the_forms_that_registries_send_are_read() {
        for (headers, expected) in [
            (
                vec![
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                ],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (vec![r#"bearer REALM="https://x/t""#], bearer("https://x/t", None)),
            (
                vec![r#"Bearer  realm = "https://x/t" , service = plain , error="insufficient_scope""#],
                bearer("https://x/t", Some("plain")),
            ),
            (vec![r#"Bearer realm="https://x/t?a=\"b\"",service="""#], bearer("https://x/t?a=%22b%22", None)),
            (vec![r#"Basic realm="registry""#], Some(Challenge::Basic)),
            (vec!["Basic"], Some(Challenge::Basic)),
            (
                vec![r#"Basic realm="r", Bearer realm="https://x/t",service="s""#],
                bearer("https://x/t", Some("s")),
            ),
            (vec!["Negotiate", r#"Basic realm="r""#], Some(Challenge::Basic)),
            (
                vec![r#"Digest realm="r", nonce="n""#, r#"Bearer realm="https://x/t""#],
                bearer("https://x/t", None),
            ),
        ] {
            assert_eq!(parse(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_header_that_breaks_the_grammar_is_no_challenge() {
        let long = format!(r#"Bearer realm="https://x/{}""#, "a".repeat(MAX_HEADER));
        let many = format!("Bearer {}", (0..40).map(|i| format!("p{i}=v")).collect::<Vec<_>>().join(","));
        for bad in [
            "",
            "Bearer",
            "Bearer realm=",
            r#"Bearer realm="https://x"#,
            r#"Bearer realm="not a url""#,
            r#"Bearer realm="https://x" service="s""#,
            r#"Bearer realm="https://x",realm="https://y""#,
            "Bearer realm=\"https://x\u{7f}\"",
            "Bearer realm=\"https://x\\",
            r#"="x""#,
            &long,
            &many,
        ] {
            assert_eq!(parse(&[bad]), None, "{bad:?}");
        }
    }
}
