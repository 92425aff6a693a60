//! Where a client believes that we are: the scheme and host of the absolute addresses in answers.

use axum::http::{HeaderMap, header};

/// The base of absolute addresses, without a slash at the end: the configured one; else what a proxy says of the
/// request; else the request's own host. Clients of older versions cannot follow relative addresses.
pub(super) fn base_url(public: Option<&str>, headers: &HeaderMap, is_tls: bool, local: &str) -> String {
    if let Some(public) = public {
        return public.trim_end_matches('/').to_owned();
    }
    let first = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        Some(text.split(',').next().unwrap_or_default().trim().to_owned())
    };
    let proto = first("x-forwarded-proto").filter(|proto| matches!(proto.as_str(), "http" | "https"));
    let proto = proto.unwrap_or_else(|| if is_tls { "https" } else { "http" }.to_owned());
    let host = first("x-forwarded-host").filter(|host| is_host(host));
    let host = host.or_else(|| first(header::HOST.as_str()).filter(|host| is_host(host)));
    format!("{proto}://{}", host.as_deref().unwrap_or(local))
}

fn is_host(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    (1..=255).contains(&text.len()) && text.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_client_used() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
        };
        for (public, pairs, tls, expected) in [
            (None, vec![("host", "127.0.0.1:80")], false, "http://127.0.0.1:80"),
            (None, vec![("host", "cp.example")], true, "https://cp.example"),
            (
                None,
                vec![
                    ("host", "10.0.0.1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "cp.example, x"),
                ],
                false,
                "https://cp.example",
            ),
            (None, vec![("host", "a"), ("x-forwarded-proto", "gopher")], false, "http://a"),
            (None, vec![("x-forwarded-host", "evil/path")], false, "http://local:1"),
            (Some("https://cp.example/"), vec![("host", "a")], false, "https://cp.example"),
        ] {
            assert_eq!(base_url(public, &headers(&pairs), tls, "local:1"), expected, "{pairs:?}");
        }
    }
}
