use super::*;

fn entry_of(name: &str) -> Json {
    let entry = serde_json::json!({
        "mediaType": MediaType::OCI_MANIFEST,
        "digest": Digest::sha256(name.as_bytes()).to_string(),
        "size": 1,
        "annotations": { "name": name },
    });
    entry.as_object().unwrap().clone()
}

fn entries(names: &str) -> Vec<Json> {
    names.split_whitespace().map(entry_of).collect()
}

fn index(names: Option<&str>) -> Option<Index> {
    names.map(|names| Index { manifests: entries(names), annotations: None })
}

fn listed(names: &str) -> BTreeSet<String> {
    entries(names).iter().filter_map(digest_of).map(str::to_owned).collect()
}

fn names(index: &Index) -> String {
    let name = |entry: &Json| entry["annotations"]["name"].as_str().unwrap().to_owned();
    index.manifests.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_sources_index_goes_unchanged_where_that_is_enough_and_only_a_true_union_is_written() {
    // What the target lists by its API, its index, the source's index, what is carried → what is done.
    for (api, target, source, carried, expected) in [
        ("", None, Some("a b"), "a b", "unchanged"),
        ("", Some("a"), Some("a b"), "a b", "unchanged"),
        ("", Some(""), Some("a"), "a", "unchanged"),
        ("", Some("a b"), Some("a b"), "a b", "nothing"),
        ("", Some("a b c"), Some("a b"), "a b", "nothing"),
        ("", Some("a c"), Some("a b"), "a b", "a c b"),
        ("", None, None, "a b", "a b"),
        ("", Some("c"), None, "a", "c a"),
        ("", None, Some("a"), "a b", "a b"),
        ("a b", None, Some("a b"), "a b", "nothing"),
        ("a", None, Some("a b"), "a b", "unchanged"),
        ("", None, Some("a b"), "a", "unchanged"),
        ("", Some("a"), Some("a b"), "a", "nothing"),
    ] {
        let mut known = listed(api);
        known.extend(target.map(listed).unwrap_or_default());
        let decided =
            decide_fallback(&known, index(target).as_ref(), index(source).as_ref(), &entries(carried));
        let shown = match decided {
            Decision::Nothing => "nothing".to_owned(),
            Decision::Unchanged => "unchanged".to_owned(),
            Decision::Write(bytes) => {
                assert!(transship_model::ManifestView::parse(&bytes, Some(MediaType::OCI_INDEX)).is_ok());
                names(&read_index(&bytes).unwrap())
            }
        };
        assert_eq!(shown, expected, "{api:?} {target:?} {source:?} {carried:?}");
    }
}

#[test]
fn a_union_keeps_what_entries_and_indexes_say() {
    let annotated = |who: &str| {
        let annotations = serde_json::json!({ "who": who }).as_object().cloned();
        Index { manifests: entries(who), annotations }
    };
    let written =
        read_index(&union(Some(&annotated("target")), Some(&annotated("source")), &entries("source new")));
    let written = written.unwrap();
    assert_eq!(names(&written), "target source new");
    assert_eq!(written.annotations.unwrap()["who"], "target");
}

#[test]
fn the_entry_of_a_referrer_says_what_the_specification_asks_for() {
    let entry_of = |json: &str, media_type: &str| {
        let view = transship_model::ManifestView::parse(json.as_bytes(), Some(media_type)).unwrap();
        entry(&Digest::sha256(json.as_bytes()), &view, json.as_bytes())
    };
    let config = format!(r#"{{"mediaType":"a/config","digest":"{}","size":1}}"#, Digest::sha256(b""));
    let image =
        entry_of(&format!(r#"{{"config":{config},"annotations":{{"k":"v"}}}}"#), MediaType::OCI_MANIFEST);
    assert_eq!((&image["artifactType"], &image["annotations"]["k"]), (&"a/config".into(), &"v".into()));
    let typed =
        entry_of(&format!(r#"{{"artifactType":"a/sbom","config":{config}}}"#), MediaType::OCI_MANIFEST);
    assert_eq!(typed["artifactType"], "a/sbom");
    assert!(!typed.contains_key("annotations"));
    let index = entry_of(r#"{"manifests":[]}"#, MediaType::OCI_INDEX);
    assert!(!index.contains_key("artifactType"));
    assert_eq!(index["size"], 16);
}
