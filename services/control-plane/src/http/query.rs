//! Query parameters. Their names are compared without regard to case, as Azure Resource Manager does.

use url::form_urlencoded;

use crate::api::Order;
use crate::check::shown;
use crate::refusal::Refusal;

/// The most that `$top` may ask for.
const MAX_TOP: u32 = 1000;

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

/// Which page of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    /// Behind this place, in the order of the list.
    pub(super) after: i64,
    /// How many.
    pub(super) top: u32,
    /// Whether the client said how many.
    pub(super) asked: bool,
    /// In which order.
    pub(super) order: Order,
}

/// The values of `$orderby`: by when a resource was first put.
const ORDERS: [(&str, Order); 3] = [
    ("systemData/createdAt desc", Order::NewestFirst),
    ("systemData/createdAt asc", Order::OldestFirst),
    ("systemData/createdAt", Order::OldestFirst),
];

impl Query {
    pub(super) fn of(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of `name` that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let fits = |(key, value): &&(String, String)| key.eq_ignore_ascii_case(name) && !value.is_empty();
        self.0.iter().find(fits).map(|(_, value)| value.as_str())
    }

    /// The version that the client speaks. Any is served, but one must be there.
    pub(super) fn api_version(&self) -> Result<&str, Refusal> {
        self.get("api-version").ok_or_else(|| {
            let message = "The query parameter api-version is missing: add ?api-version=2025-06-01-preview (any \
                           version is served).";
            Refusal::new(400, "MissingApiVersionParameter", message).at("api-version")
        })
    }

    /// In which order a list is wanted that is served in several.
    pub(super) fn order(&self) -> Result<Order, Refusal> {
        let Some(asked) = self.get("$orderby") else { return Ok(Order::OldestFirst) };
        let known = ORDERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked));
        known.map(|(_, order)| *order).ok_or_else(|| self.wrong("$orderby", &format!("{:?}", ORDERS[0].0)))
    }

    fn wrong(&self, name: &str, expected: &str) -> Refusal {
        let given = shown(self.get(name).unwrap_or_default());
        let message = format!("{name}={given} is not valid: expected {expected}.");
        Refusal::new(400, "InvalidQueryParameter", message).at(name)
    }

    /// Which page of a list is wanted; `page` is how many resources a page has by itself.
    pub(super) fn paging(&self, page: u32, order: Order) -> Result<Paging, Refusal> {
        let token = self
            .get("$skipToken")
            .map(str::parse::<i64>)
            .transpose()
            .ok()
            .filter(|n| n.is_none_or(|n| n >= 0));
        let after = token.ok_or_else(|| self.wrong("$skipToken", "what the nextLink of a page holds"))?;
        let top = self.get("$top").map(str::parse::<u32>).transpose().ok();
        let top = top.filter(|top| top.is_none_or(|top| (1..=MAX_TOP).contains(&top)));
        let top = top.ok_or_else(|| self.wrong("$top", "a number from 1 to 1000"))?;
        let after = after.unwrap_or(order.start());
        Ok(Paging { after, top: top.unwrap_or(page), asked: top.is_some(), order })
    }
}

impl Paging {
    /// The address of the page behind `last`, below `base` with this path and version.
    pub(super) fn next_link(&self, base: &str, path: &str, api_version: Option<&str>, last: i64) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(version) = api_version {
            query.append_pair("api-version", version);
        }
        if self.asked {
            query.append_pair("$top", &self.top.to_string());
        }
        if self.order == Order::NewestFirst {
            query.append_pair("$orderby", ORDERS[0].0);
        }
        query.append_pair("$skipToken", &last.to_string());
        format!("{base}{path}?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_must_be_there_and_may_be_any() {
        assert_eq!(Query::of(Some("API-Version=1")).api_version().unwrap(), "1");
        for query in [None, Some(""), Some("api-version=")] {
            let refusal = Query::of(query).api_version().unwrap_err();
            assert_eq!((refusal.status, refusal.error.code.as_str()), (400, "MissingApiVersionParameter"));
        }
    }

    #[test]
    fn a_page_of_the_newest_is_followed_by_one_of_those_before_them() {
        let paging = |query| {
            let query = Query::of(Some(query));
            query.order().and_then(|order| query.paging(100, order)).map(|page| (page.after, page.order))
        };
        let newest = "$orderBy=systemdata%2FcreatedAt+desc";
        assert_eq!(paging(newest).unwrap(), (i64::MAX, Order::NewestFirst));
        assert_eq!(paging("$orderby=systemData/createdAt%20asc").unwrap(), (0, Order::OldestFirst));
        let first = Query::of(Some(newest)).paging(100, Order::NewestFirst).unwrap();
        let link = first.next_link("http://h", "/p", None, 9);
        assert_eq!(paging(link.split_once('?').unwrap().1).unwrap(), (9, Order::NewestFirst));
        let wrong = paging("$orderby=systemData/lastModifiedAt desc").unwrap_err();
        assert_eq!(
            (wrong.error.code.as_str(), wrong.error.target.as_deref()),
            ("InvalidQueryParameter", Some("$orderby"))
        );
    }

    #[test]
    fn pages_follow_each_other() {
        let paging = Query::of(Some("%24top=2&$skiptoken=7")).paging(100, Order::OldestFirst).unwrap();
        assert_eq!(paging, Paging { after: 7, top: 2, asked: true, order: Order::OldestFirst });
        let link = paging.next_link("http://h", "/p", Some("2025"), 9);
        assert_eq!(link, "http://h/p?api-version=2025&%24top=2&%24skipToken=9");
        let next =
            Query::of(link.split_once('?').map(|(_, query)| query)).paging(100, Order::OldestFirst).unwrap();
        assert_eq!(next.after, 9);
        let first = Paging { after: 0, top: 100, asked: false, order: Order::OldestFirst };
        assert_eq!(Query::of(None).paging(100, Order::OldestFirst).unwrap(), first);
        for bad in ["$top=0", "$top=1001", "$top=x", "$skipToken=-1", "$skipToken=x"] {
            assert_eq!(
                Query::of(Some(bad)).paging(100, Order::OldestFirst).unwrap_err().error.code,
                "InvalidQueryParameter",
                "{bad}"
            );
        }
    }
}
