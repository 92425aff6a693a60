//! `Link` headers (RFC 8288), as far as paging needs them. Pure.

use url::Url;

/// The longest header that is read, in bytes.
const MAX_HEADER: usize = 8 * 1024;

/// Where the next page is: the target of the first link whose relation is `next`, resolved against the page
/// that it came with. `Err` where there is one that is not an address.
pub(crate) fn next_page<'a>(page: &Url, headers: impl Iterator<Item = &'a str>) -> Result<Option<Url>, ()> {
    for header in headers.take(8) {
        if header.len() > MAX_HEADER {
            return Err(());
        }
        let mut rest = header;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, parameters) = after.split_once('>').ok_or(())?;
            // A target may hold commas and semicolons, a parameter may not hold '<' in the forms that exist.
            let own = parameters.split('<').next().unwrap_or_default();
            if own.split([';', ',']).any(is_next) {
                return page.join(target).map(Some).map_err(|_| ());
            }
            rest = parameters;
        }
    }
    Ok(None)
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_every_form() {
        let page: Url = "https://r.example/v2/a/tags/list?n=2".parse().unwrap();
        for (header, expected) in [
            (
                r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
                Some("https://r.example/v2/a/tags/list?n=2&last=b"),
            ),
            ("<list?last=b>;rel=next", Some("https://r.example/v2/a/tags/list?last=b")),
            (r#"<https://o.example/x,y>; title="t"; rel="prev next""#, Some("https://o.example/x,y")),
            (r#"</a>; rel="prev", </b>; rel="next""#, Some("https://r.example/b")),
            (r#"</a>; rel="prev""#, None),
            ("</a>", None),
            ("", None),
        ] {
            let found = next_page(&page, std::iter::once(header)).unwrap();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{header}");
        }
        for bad in
            [r#"</a; rel="next""#, r#"<http://[>; rel="next""#, &format!("<{}>", "a".repeat(MAX_HEADER))]
        {
            assert!(next_page(&page, std::iter::once(bad)).is_err(), "{bad:.40}");
        }
    }
}
