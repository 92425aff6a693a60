//! Lists: pages, links, and what is no list.

use std::sync::atomic::{AtomicUsize, Ordering};

use transship_model::Tag;
use transship_registry::{Catalog as _, RegistryError, Source as _};

use crate::server::{Reply, Request, Server};
use crate::{INDEX, client, digest, error, repository};

fn tags(names: &[String]) -> Reply {
    Reply::new(200).body(serde_json::json!({ "name": "team/app", "tags": names }).to_string())
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("t{number:05}")).collect()
}

async fn listed(server: &Server) -> Vec<String> {
    client(&server.url()).tags(&repository()).await.unwrap().iter().map(Tag::to_string).collect()
}

#[tokio::test]
async fn tags_are_paged_by_links_and_sorted() {
    let server = Server::start(|base| {
        let next = [
            format!("<{base}/v2/team/app/tags/list?n=1000&last=b>; rel=\"next\""),
            "</v2/team/app/tags/list?last=c>;rel=next".to_owned(),
        ];
        move |request: &Request| match request.target.rsplit_once("last=") {
            None => tags(&["z".into(), "b".into()]).header("link", &next[0]),
            Some((_, "b")) => tags(&["c".into(), "not a tag".into()]).header("link", &next[1]),
            Some(_) => tags(&["a".into()]),
        }
    })
    .await;
    assert_eq!(listed(&server).await, ["a", "b", "c", "z"]);
    assert_eq!(server.log()[0].target, "/v2/team/app/tags/list?n=1000");
}

#[tokio::test]
async fn tags_are_paged_without_links_where_a_page_is_full() {
    // Pages by `last`, and does not say so.
    let paging = Server::start(|_| {
        |request: &Request| match request.target.rsplit_once("last=t") {
            None => tags(&names(0..1000)),
            Some((_, "00999")) => tags(&names(1000..2000)),
            Some((_, "01999")) => tags(&names(2000..2500)),
            Some(_) => Reply::new(500),
        }
    })
    .await;
    assert_eq!(listed(&paging).await, names(0..2500));
    // Ignores every parameter, and always sends everything.
    let ignoring = Server::start(|_| |_: &_| tags(&names(0..3000))).await;
    assert_eq!(listed(&ignoring).await.len(), 3000);
    assert_eq!(ignoring.log().len(), 2);
}

#[tokio::test]
async fn a_list_of_tags_that_turns_in_circles_ends() {
    let turns = AtomicUsize::new(0);
    let server = Server::start(|_| {
        move |_: &_| {
            tags(&names(0..turns.fetch_add(1, Ordering::SeqCst).min(3)))
                .header("link", "</v2/team/app/tags/list>; rel=next")
        }
    })
    .await;
    assert!(listed(&server).await.len() <= 3);
    assert!(server.log().len() <= 5);
}

#[tokio::test]
async fn an_empty_page_does_not_end_a_list_and_empty_pages_without_end_do() {
    let server = Server::start(|_| {
        |request: &Request| match request.target.rsplit_once("last=") {
            None => tags(&["a".into()]).header("link", "</v2/team/app/tags/list?last=1>; rel=next"),
            Some((_, "1")) => tags(&[]).header("link", "</v2/team/app/tags/list?last=2>; rel=next"),
            Some(_) => tags(&["b".into()]),
        }
    })
    .await;
    assert_eq!(listed(&server).await, ["a", "b"]);
    let turns = AtomicUsize::new(0);
    let endless = Server::start(|_| {
        move |_: &_| {
            let turn = turns.fetch_add(1, Ordering::SeqCst);
            tags(&[]).header("link", format!("</v2/team/app/tags/list?last={turn}>; rel=next"))
        }
    })
    .await;
    assert!(listed(&endless).await.is_empty());
    assert!(endless.log().len() <= 20);
}

#[tokio::test]
async fn a_repository_without_tags_or_without_itself_has_none() {
    for reply in [
        || Reply::new(404).code("NAME_UNKNOWN"),
        || Reply::new(200).body(r#"{"name":"x","tags":null}"#),
        || Reply::new(200).body("{}"),
    ] {
        let server = Server::start(|_| move |_: &_| reply()).await;
        assert!(listed(&server).await.is_empty());
    }
}

#[tokio::test]
async fn a_page_elsewhere_is_refused_and_a_web_page_is_no_list() {
    let evil = Server::start(|_| |_: &_| tags(&names(0..1))).await;
    for link in [
        format!("<{}/v2/x?CANARY>; rel=next", evil.url()),
        "<http://169.254.169.254/v2/x>; rel=next".to_owned(),
    ] {
        let for_server = link.clone();
        let server = Server::start(|_| move |_: &_| tags(&names(0..5)).header("link", &for_server)).await;
        let failed = error(client(&server.url()).tags(&repository()).await);
        assert!(matches!(failed, RegistryError::EgressDenied { .. }), "{failed}");
        let server = Server::start(|_| {
            move |_: &_| {
                let page = serde_json::json!({ "manifests": [{ "mediaType": "a/b", "digest": digest("x"), "size": 1 }] });
                Reply::new(200).header("content-type", INDEX).header("link", &link).body(page.to_string())
            }
        })
        .await;
        let failed = error(client(&server.url()).referrers(&repository(), &digest("s")).await);
        assert!(matches!(failed, RegistryError::EgressDenied { .. }), "{failed}");
    }
    assert!(evil.log().is_empty());
    for body in ["<html>CANARY", "[]", r#"{"tags":["CANARY",1]}"#, ""] {
        let server = Server::start(|_| move |_: &_| Reply::new(200).body(body)).await;
        let failed = error(client(&server.url()).tags(&repository()).await);
        assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
    }
    let server = Server::start(|_| |_: &_| Reply::new(200).endless()).await;
    assert!(matches!(error(client(&server.url()).tags(&repository()).await), RegistryError::Protocol { .. }));
}

#[tokio::test]
async fn a_registry_that_does_not_list_tags_refuses_and_is_not_thought_to_be_busy() {
    for (status, forbidden) in [(501, false), (403, true)] {
        let server = Server::start(|_| move |_: &_| Reply::new(status).code("UNSUPPORTED")).await;
        let failed = error(client(&server.url()).tags(&repository()).await);
        assert_eq!(matches!(failed, RegistryError::Forbidden { .. }), forbidden, "{failed}");
        assert_eq!(matches!(failed, RegistryError::Refused { .. }), !forbidden, "{failed}");
        assert_eq!(server.log().len(), 1);
    }
}

fn index(contents: &[&str]) -> String {
    let descriptor = |content: &&str| serde_json::json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(content), "size": 1 });
    let manifests: Vec<_> = contents.iter().map(descriptor).collect();
    serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string()
}

#[tokio::test]
async fn referrers_come_in_pages_and_from_the_fallback_tag_as_well() {
    let server = Server::start(|_| {
        |request: &Request| {
            let page =
                |contents: &[&str]| Reply::new(200).header("content-type", INDEX).body(index(contents));
            match request.target.as_str() {
                target if target.ends_with("/referrers?page=2") => page(&["b", "c"]),
                target if target.contains("/referrers/") => {
                    page(&["a", "b"]).header("link", "</v2/team/app/referrers?page=2>; rel=\"next\"")
                }
                target if target.contains("/manifests/sha256-") => page(&["c", "d"]),
                _ => Reply::new(500),
            }
        }
    })
    .await;
    let referrers = client(&server.url()).referrers(&repository(), &digest("subject")).await.unwrap();
    let found: Vec<_> = referrers.descriptors.iter().map(|descriptor| descriptor.digest.clone()).collect();
    assert_eq!(found, ["a", "b", "c", "d"].map(digest));
    assert_eq!(&referrers.fallback.unwrap().bytes[..], index(&["c", "d"]).as_bytes());
}

#[tokio::test]
async fn a_further_page_of_referrers_that_cannot_be_read_is_no_sign_that_there_is_no_api() {
    for status in [404, 200] {
        let server = Server::start(|_| {
            move |request: &Request| match request.target.as_str() {
                target if target.ends_with("?page=2") => {
                    Reply::new(status).header("content-type", "text/html")
                }
                target if target.contains("/referrers/") => Reply::new(200)
                    .header("content-type", INDEX)
                    .header("link", "</v2/team/app/referrers?page=2>; rel=\"next\"")
                    .body(index(&["a"])),
                _ => Reply::new(404),
            }
        })
        .await;
        error(client(&server.url()).referrers(&repository(), &digest("subject")).await);
    }
}

#[tokio::test]
async fn a_registry_without_the_api_has_what_its_fallback_tag_says() {
    for status in [404, 400, 405, 200] {
        let server = Server::start(|_| {
            move |request: &Request| match request.target.contains("/manifests/") {
                true => Reply::new(200).header("content-type", INDEX).body(index(&["a"])),
                // With 200: the page that some registries have for every path.
                false => Reply::new(status).header("content-type", "text/html").body("<html>"),
            }
        })
        .await;
        let referrers = client(&server.url()).referrers(&repository(), &digest("subject")).await.unwrap();
        assert_eq!(referrers.descriptors.len(), 1, "{status}");
    }
    let empty = Server::start(|_| |_: &_| Reply::new(404)).await;
    let referrers = client(&empty.url()).referrers(&repository(), &digest("subject")).await.unwrap();
    assert!(referrers.descriptors.is_empty() && referrers.fallback.is_none());
}

#[tokio::test]
async fn a_fallback_tag_that_is_known_to_be_absent_is_looked_for_only_where_there_is_no_api() {
    for (status, expected) in [(200, 1), (404, 2)] {
        let server = Server::start(|_| {
            move |request: &Request| match request.target.contains("/manifests/") {
                true => Reply::new(200).header("content-type", INDEX).body(index(&["a"])),
                false => Reply::new(status).header("content-type", INDEX).body(index(&["a"])),
            }
        })
        .await;
        let client = client(&server.url());
        let referrers = client.referrers_of_untagged(&repository(), &digest("subject")).await.unwrap();
        assert_eq!((referrers.descriptors.len(), server.log().len()), (1, expected), "{status}");
    }
}

#[tokio::test]
async fn too_many_referrers_and_a_fallback_tag_that_is_no_index_are_seen() {
    let many: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let body = index(&many);
    let server =
        Server::start(|_| move |_: &_| Reply::new(200).header("content-type", INDEX).body(body.as_str()))
            .await;
    assert!(matches!(
        error(client(&server.url()).referrers(&repository(), &digest("s")).await),
        RegistryError::Protocol { .. }
    ));
    let server = Server::start(|_| {
        |request: &Request| match request.target.contains("/manifests/") {
            true => Reply::new(200).body(r#"{"schemaVersion":2,"layers":[]}"#),
            false => Reply::new(404),
        }
    })
    .await;
    let referrers = client(&server.url()).referrers(&repository(), &digest("s")).await.unwrap();
    assert!(referrers.fallback.is_none());
}

fn catalog(names: &[String]) -> Reply {
    Reply::new(200).body(serde_json::json!({ "repositories": names }).to_string())
}

async fn repositories(server: &Server) -> Option<Vec<String>> {
    let listed = client(&server.url()).list_repositories().await.unwrap();
    listed.map(|listed| listed.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn repositories_are_paged_by_links_and_by_full_pages() {
    let linked = Server::start(|_| {
        |request: &Request| match request.target.rsplit_once("last=") {
            None => catalog(&["z".into(), "Not/a repository".into()])
                .header("link", "</v2/_catalog?last=z>; rel=\"next\""),
            Some(_) => catalog(&["a/b".into()]),
        }
    })
    .await;
    assert_eq!(repositories(&linked).await.unwrap(), ["a/b", "z"]);
    assert_eq!(linked.log()[0].target, "/v2/_catalog?n=1000");
    let full = Server::start(|_| {
        |request: &Request| match request.target.rsplit_once("last=t") {
            None => catalog(&names(0..1000)),
            Some((_, "00999")) => catalog(&names(1000..1500)),
            Some(_) => Reply::new(500),
        }
    })
    .await;
    assert_eq!(repositories(&full).await.unwrap(), names(0..1500));
}

#[tokio::test]
async fn a_registry_that_lists_no_repositories_is_told_from_an_empty_one() {
    for status in [404, 405, 501] {
        let server = Server::start(|_| move |_: &_| Reply::new(status).code("UNSUPPORTED")).await;
        assert_eq!(repositories(&server).await, None, "{status}");
    }
    for body in [r#"{"repositories":null}"#, "{}", r#"{"repositories":[]}"#] {
        let server = Server::start(|_| move |_: &_| Reply::new(200).body(body)).await;
        assert_eq!(repositories(&server).await, Some(vec![]), "{body}");
    }
}

#[tokio::test]
async fn a_hostile_list_of_repositories_ends_or_is_refused() {
    let turns = AtomicUsize::new(0);
    let circle = Server::start(|_| {
        move |_: &_| {
            catalog(&names(0..turns.fetch_add(1, Ordering::SeqCst).min(3)))
                .header("link", "</v2/_catalog>; rel=next")
        }
    })
    .await;
    assert!(repositories(&circle).await.unwrap().len() <= 3);
    assert!(circle.log().len() <= 5);
    let elsewhere = "<http://169.254.169.254/v2/_catalog>; rel=next";
    let server = Server::start(|_| move |_: &_| catalog(&names(0..5)).header("link", elsewhere)).await;
    let failed = error(client(&server.url()).list_repositories().await);
    assert!(matches!(failed, RegistryError::EgressDenied { .. }), "{failed}");
    for body in ["<html>CANARY", "[]", r#"{"repositories":["CANARY",1]}"#, ""] {
        let server = Server::start(|_| move |_: &_| Reply::new(200).body(body)).await;
        let failed = error(client(&server.url()).list_repositories().await);
        assert!(matches!(failed, RegistryError::Protocol { .. }), "{failed}");
    }
    let many = AtomicUsize::new(0);
    let endless = Server::start(|_| {
        move |_: &_| {
            let first = many.fetch_add(10_000, Ordering::SeqCst);
            catalog(&names(first..first + 10_000)).header("link", "</v2/_catalog?last=x>; rel=next")
        }
    })
    .await;
    let failed = error(client(&endless.url()).list_repositories().await);
    assert!(failed.to_string().contains("100000 repositories"), "{failed}");
    let denied = Server::start(|_| |_: &_| Reply::new(403).code("DENIED")).await;
    let failed = error(client(&denied.url()).list_repositories().await);
    assert!(failed.to_string().contains("the list of repositories"), "{failed}");
}
