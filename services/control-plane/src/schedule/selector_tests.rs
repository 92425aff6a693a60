use serde_json::json;
use transship_model::Digest;

use super::*;

fn schedule(value: serde_json::Value) -> Schedule {
    serde_json::from_value(value).unwrap()
}

fn with_tags(tags: serde_json::Value) -> Selector {
    Selector::new(&schedule(json!({ "repositories": ["**"], "tags": tags }))).unwrap()
}

fn selects(selector: &Selector, tag: &str) -> bool {
    selector.selects_tag(&tag.parse().unwrap())
}

#[test]
fn a_tag_is_selected_by_any_rule_and_by_none_of_the_exclusions() {
    for (rules, tag, expected) in [
        (json!({}), "anything", true),
        (json!({ "globs": ["v*"] }), "v1", true),
        (json!({ "globs": ["v*"] }), "1", false),
        (json!({ "globs": ["v*", "latest"] }), "latest", true),
        (json!({ "regex": "v[0-9]+" }), "v12", true),
        (json!({ "regex": "v[0-9]+" }), "v12-rc", false),
        (json!({ "regex": "a|b" }), "ab", false),
        (json!({ "regex": "a|b" }), "b", true),
        (json!({ "semver": ">=1.4, <2" }), "1.4.0", true),
        (json!({ "semver": ">=1.4, <2" }), "v1.9.9", true),
        (json!({ "semver": ">=1.4, <2" }), "2.0.0", false),
        (json!({ "semver": ">=1.4, <2" }), "1.3.9", false),
        (json!({ "semver": ">=1.4, <2" }), "1.5.0-rc.1", false),
        (json!({ "semver": ">=1.4, <2" }), "latest", false),
        (json!({ "semver": ">=1.4, <2" }), "1.5", false),
        (json!({ "semver": ">=1.5.0-rc.1" }), "v1.5.0-rc.2", true),
        (json!({ "semver": "^2", "globs": ["latest"] }), "latest", true),
        (json!({ "semver": "^2", "globs": ["latest"] }), "2.1.0", true),
        (json!({ "semver": "^2", "globs": ["latest"] }), "1.0.0", false),
        (json!({ "exclude": ["*-rc*"] }), "v1-rc1", false),
        (json!({ "exclude": ["*-rc*"] }), "v1", true),
        (json!({ "globs": ["v*"], "exclude": ["v0*"] }), "v0.1", false),
        (json!({ "globs": null, "regex": "", "semver": null }), "x", true),
    ] {
        assert_eq!(selects(&with_tags(rules.clone()), tag), expected, "{rules} {tag}");
    }
}

#[test]
fn referrers_and_signatures_travel_with_what_they_belong_to() {
    let hex = Digest::sha256(b"x").hex().to_owned();
    for (tag, expected) in [
        (format!("sha256-{hex}"), true),
        (format!("sha512-{hex}"), true),
        (format!("sha256-{hex}.sig"), true),
        (format!("sha256-{hex}.att"), true),
        (format!("sha256-{hex}.sbom"), true),
        (format!("sha256-{hex}.other"), false),
        (format!("sha256-{}", &hex[1..]), false),
        (format!("sha256-{}", hex.to_uppercase()), false),
        (format!("v-{hex}"), false),
        ("sha256-abc".to_owned(), false),
        ("v1.sig".to_owned(), false),
    ] {
        assert_eq!(travels_with_its_subject(&tag.parse().unwrap()), expected, "{tag}");
        assert_eq!(selects(&with_tags(json!({})), &tag), !expected, "{tag}");
    }
    assert!(!selects(&with_tags(json!({ "globs": ["sha256-*"] })), &format!("sha256-{hex}.sig")));
}

#[test]
fn repositories_are_named_or_found_by_pattern() {
    let named = Selector::new(&schedule(json!({ "repositories": ["team/app", "base"] }))).unwrap();
    let names: Vec<_> = named.named_repositories().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["team/app", "base"]);
    let found = Selector::new(&schedule(json!({ "repositories": ["base", "team/*"] }))).unwrap();
    assert_eq!(found.named_repositories(), None);
    for (repository, expected) in [("base", true), ("team/app", true), ("team/a/b", false), ("other", false)]
    {
        assert_eq!(found.selects_repository(&repository.parse().unwrap()), expected, "{repository}");
    }
}

#[test]
fn every_fault_of_a_schedule_is_told_with_its_property() {
    let good = json!({ "repositories": ["team/**"], "intervalSeconds": 60, "blobName": "{pipeline}/{date}" });
    assert_eq!(check(&schedule(good.clone())), []);
    for (change, property) in [
        (json!({ "repositories": [] }), "repositories"),
        (json!({ "repositories": ["a", "B"] }), "repositories[1]"),
        (json!({ "tags": { "globs": ["a/b"] } }), "tags.globs[0]"),
        (json!({ "tags": { "exclude": ["[x]"] } }), "tags.exclude[0]"),
        (json!({ "tags": { "globs": vec!["a"; 1_001] } }), "tags.globs"),
        (json!({ "tags": { "regex": "(" } }), "tags.regex"),
        (json!({ "tags": { "regex": "a)|(b" } }), "tags.regex"),
        (json!({ "tags": { "regex": "(?=x)" } }), "tags.regex"),
        (json!({ "tags": { "regex": "(((a{1,100}){1,100}){1,100}){1,100}" } }), "tags.regex"),
        (json!({ "tags": { "regex": "a".repeat(1_001) } }), "tags.regex"),
        (json!({ "tags": { "semver": "newest" } }), "tags.semver"),
        (json!({ "intervalSeconds": 9 }), "intervalSeconds"),
        (json!({ "intervalSeconds": 604_801 }), "intervalSeconds"),
        (json!({ "intervalSeconds": null, "notifications": false }), "intervalSeconds"),
        (json!({ "batchSeconds": 601 }), "batchSeconds"),
        (json!({ "blobName": "{tag}" }), "blobName"),
        (json!({ "blobName": "a/../b" }), "blobName"),
    ] {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let faults = check(&schedule(changed));
        let properties: Vec<_> = faults.iter().map(|(property, _)| property.as_str()).collect();
        assert_eq!(properties, [property], "{change:.80} {faults:?}");
    }
    let all =
        json!({ "repositories": ["A"], "tags": { "regex": "(", "semver": "newest" }, "batchSeconds": 1000 });
    assert_eq!(check(&schedule(all)).len(), 4);
}
