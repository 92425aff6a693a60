use proptest::prelude::*;
use transship_bundle::{Absence, Catalog, Location};
use transship_model::{Code, ImportOptions, ManifestView, MediaType, RenameRule, RenameRules};

use super::*;

/// Manifests by their names: `leaf` is an image with one layer, the others are indexes of what they list.
#[derive(Default)]
struct Graph {
    catalog: Option<Catalog>,
    views: BTreeMap<Digest, ManifestView>,
    broken: BTreeMap<Digest, Failure>,
}

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn descriptor(name: &str, media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":10}}"#, digest(name))
}

impl Graph {
    fn catalog(&mut self) -> &mut Catalog {
        self.catalog.get_or_insert_with(|| Catalog {
            artifacts: Vec::new(),
            discovered: Vec::new(),
            locations: BTreeMap::new(),
            manifest_types: BTreeMap::new(),
            declared: BTreeMap::new(),
            bill: None,
            catalog_digest: digest("catalog"),
        })
    }

    fn store(&mut self, name: &str, size: u64) {
        self.catalog().locations.insert(digest(name), Location::Stored { offset: 0, size });
    }

    /// An image with these layers, each of them stored.
    fn image(mut self, name: &str, layers: &[&str]) -> Self {
        let blobs: Vec<_> = layers.iter().map(|layer| descriptor(layer, "a/layer")).collect();
        let json = format!(r#"{{"layers":[{}]}}"#, blobs.join(","));
        self.views.insert(
            digest(name),
            ManifestView::parse(json.as_bytes(), Some(MediaType::OCI_MANIFEST)).unwrap(),
        );
        self.store(name, 100);
        layers.iter().for_each(|layer| self.store(layer, 1_000));
        self
    }

    fn index(mut self, name: &str, children: &[&str]) -> Self {
        let list: Vec<_> = children.iter().map(|child| descriptor(child, MediaType::OCI_MANIFEST)).collect();
        let json = format!(r#"{{"manifests":[{}]}}"#, list.join(","));
        self.views
            .insert(digest(name), ManifestView::parse(json.as_bytes(), Some(MediaType::OCI_INDEX)).unwrap());
        self.store(name, 100);
        self
    }

    fn artifact(mut self, name: &str, manifest: &str) -> Self {
        self.catalog().artifacts.push(CatalogArtifact {
            name: Some(name.to_owned()),
            reference: name.parse().ok(),
            digest: digest(manifest),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            size: 100,
        });
        self
    }

    fn found(mut self, repository: &str, manifest: &str, subject: &str, by: Discovery) -> Self {
        let repository = repository.parse().unwrap();
        let (digest, subject) = (digest(manifest), digest(subject));
        self.catalog().discovered.push(Discovered { repository, digest, subject, by });
        self
    }

    fn broken(mut self, name: &str) -> Self {
        self.views.remove(&digest(name));
        self.broken
            .insert(digest(name), Failure::permanent(Code::DigestMismatch, format!("{name} is broken")));
        self
    }

    fn plan(self) -> ImportPlan {
        self.plan_with(&[])
    }

    fn plan_with(self, rules: &[(&str, &str)]) -> ImportPlan {
        let rule = |(from, to): &(&str, &str)| RenameRule { from: (*from).into(), to: (*to).into() };
        let pipeline = ImportPipeline {
            registry: "r".parse().unwrap(),
            container: "file:///c".parse().unwrap(),
            secret: None,
            options: ImportOptions::default(),
            rename: RenameRules(rules.iter().map(rule).collect()),
            mount_from: Vec::new(),
            name_as: None,
        };
        let contents = Contents::new(self.catalog.unwrap(), self.views, self.broken).unwrap();
        plan_import(&contents, &pipeline).unwrap()
    }
}

/// The tag that cosign gives to what belongs to `subject`.
fn cosign(subject: &str, suffix: &str) -> Discovery {
    Discovery::CosignTag { tag: format!("sha256-{}.{suffix}", digest(subject).hex()).parse().unwrap() }
}

const NAMES: [&str; 12] = [
    "leaf",
    "other",
    "index",
    "outer",
    "sbom",
    "signature",
    "fallback",
    "layer",
    "base",
    "sbom layer",
    "signature layer",
    "thing",
];

/// The digests of a plan by the names that they were made of.
fn named<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<&'static str> {
    let name = |wanted: &Digest| NAMES.into_iter().find(|name| digest(name) == *wanted).unwrap();
    let mut names: Vec<_> = digests.into_iter().map(name).collect();
    names.sort_unstable();
    names
}

fn waves(plan: &ImportPlan, repository: &str) -> Vec<(u32, u32, Vec<&'static str>)> {
    let plan = &plan.repositories[&repository.parse().unwrap()];
    let waves = plan.waves(plan.manifests.keys());
    waves.into_iter().map(|(rank, digests)| (rank.generation, rank.height, named(digests))).collect()
}

fn blobs(plan: &ImportPlan, repository: &str) -> Vec<&'static str> {
    named(plan.repositories[&repository.parse().unwrap()].blobs.keys())
}

fn nested() -> Graph {
    Graph::default()
        .image("leaf", &["layer", "base"])
        .image("other", &["base"])
        .index("index", &["leaf", "other"])
        .index("outer", &["index", "leaf"])
}

#[test]
fn children_come_before_indexes_and_those_before_what_belongs_to_them() {
    let plan = nested()
        .image("sbom", &["sbom layer"])
        .image("signature", &["signature layer"])
        .artifact("a:1", "outer")
        .found("a", "sbom", "leaf", Discovery::Referrer)
        .found("a", "signature", "sbom", cosign("sbom", "sig"))
        .plan();
    assert_eq!(
        waves(&plan, "a"),
        [
            (0, 0, vec!["leaf", "other"]),
            (0, 1, vec!["index"]),
            (0, 2, vec!["outer"]),
            (1, 0, vec!["sbom"]),
            (2, 0, vec!["signature"]),
        ]
    );
    assert_eq!(blobs(&plan, "a"), ["base", "layer", "sbom layer", "signature layer"]);
    assert_eq!(plan.artifacts[0].attached.len(), 2);
    assert_eq!(plan.everything.len(), 10);
    assert_eq!(plan.everything.values().sum::<u64>(), 6 * 100 + 4 * 1_000);
}

#[test]
fn a_fallback_index_belongs_to_its_subject_and_brings_nothing_along() {
    let tag = transship_model::Tag::referrers_fallback(&digest("leaf"));
    let plan = nested()
        .image("sbom", &["sbom layer"])
        .index("fallback", &["sbom"])
        .artifact("a:1", "leaf")
        .found("a", "fallback", "leaf", Discovery::FallbackIndex { tag })
        .plan();
    assert_eq!(waves(&plan, "a"), [(0, 0, vec!["leaf"])], "the index has its own turn");
    let attached = &plan.repositories[&"a".parse().unwrap()].attached;
    assert_eq!((named([&attached[0].digest]), attached[0].is_fallback()), (vec!["fallback"], true));
    assert!(plan.everything.contains_key(&digest("fallback")));
}

#[test]
fn repositories_are_planned_apart_and_rules_may_join_them() {
    let graph = || {
        nested()
            .image("sbom", &["sbom layer"])
            .artifact("team/a:1", "leaf")
            .artifact("team/b:2", "other")
            .found("team/b", "sbom", "other", Discovery::Referrer)
            .found("team/b", "sbom", "leaf", Discovery::Referrer)
    };
    let plan = graph().plan();
    assert_eq!(blobs(&plan, "team/a"), ["base", "layer"]);
    assert_eq!(blobs(&plan, "team/b"), ["base", "sbom layer"]);
    assert!(plan.artifacts[0].attached.is_empty(), "found in another repository");
    let plan = graph().plan_with(&[("team/a", "x"), ("team/b", "x")]);
    assert_eq!(plan.repositories.len(), 1);
    assert_eq!(blobs(&plan, "x"), ["base", "layer", "sbom layer"]);
    assert_eq!(plan.artifacts[1].target.to_string(), "x:2");
}

#[test]
fn what_several_artifacts_share_is_planned_once_and_belongs_to_each() {
    let plan = nested()
        .image("sbom", &["sbom layer"])
        .artifact("a:1", "outer")
        .artifact("a:2", "leaf")
        .found("a", "sbom", "leaf", Discovery::Referrer)
        .plan();
    assert_eq!(plan.repositories[&"a".parse().unwrap()].attached.len(), 1);
    assert_eq!(plan.artifacts[0].attached, plan.artifacts[1].attached);
}

#[test]
fn a_broken_manifest_fails_the_artifacts_above_it_and_no_others() {
    let failed = |plan: &ImportPlan| {
        let failure = |artifact: &PlannedArtifact| artifact.failure.as_ref().map(|failure| failure.code);
        plan.artifacts.iter().map(failure).collect::<Vec<_>>()
    };
    let plan = nested().artifact("a:1", "outer").artifact("b:1", "other").broken("leaf").plan();
    assert_eq!(failed(&plan), [Some(Code::DigestMismatch), None]);
    assert!(plan.repositories.keys().all(|repository| repository.as_str() == "b"), "nothing of it is put");
    assert!(plan.everything.contains_key(&digest("outer")), "it is counted all the same");
    let plan = nested()
        .image("sbom", &[])
        .artifact("a:1", "leaf")
        .artifact("b:1", "leaf")
        .found("a", "sbom", "leaf", Discovery::Referrer)
        .broken("sbom")
        .plan();
    assert_eq!(
        failed(&plan),
        [Some(Code::DigestMismatch), None],
        "a broken referrer fails what it belongs to"
    );
}

#[test]
fn what_an_index_lists_is_a_manifest_content_or_elsewhere() {
    let mut graph = nested().index("outer", &["leaf", "thing", "other"]).artifact("a:1", "outer");
    graph.store("thing", 7);
    graph.views.remove(&digest("other"));
    graph.catalog().locations.remove(&digest("other"));
    let contents = Contents::new(graph.catalog.unwrap(), graph.views, graph.broken).unwrap();
    let (outer, things) = (digest("outer"), contents.direct(&digest("outer")));
    assert_eq!(named(things.manifests), ["leaf"]);
    assert_eq!(named(things.blobs.iter().map(|(blob, _)| *blob)), ["thing"]);
    assert_eq!(named(things.elsewhere), ["other"]);
    assert_eq!(contents.height(&outer), 1);
}

#[test]
fn a_blob_that_is_absent_says_why() {
    let mut graph = nested().artifact("a:1", "leaf");
    for (why, expected) in [
        (Absence::NotDistributable, Place::Foreign),
        (Absence::InPart(3), Place::Missing(crate::WhyMissing::InPart(3))),
        (Absence::Acknowledged, Place::Missing(crate::WhyMissing::Acknowledged)),
        (Absence::Failed, Place::Missing(crate::WhyMissing::Failed)),
    ] {
        graph.catalog().locations.insert(digest("layer"), Location::Absent(why));
        let contents = Contents::new(graph.catalog().clone(), graph.views.clone(), BTreeMap::new()).unwrap();
        assert_eq!(contents.place(&digest("layer")), expected);
        assert_eq!(contents.place(&digest("base")), Place::Stored(0..1_000));
        assert_eq!(contents.place(&digest("never heard of")), Place::Missing(crate::WhyMissing::Unsaid));
    }
}

#[test]
fn a_table_cannot_bring_in_tags_of_its_own_choice() {
    let latest = Discovery::CosignTag { tag: "latest".parse().unwrap() };
    for (by, expected) in [
        (cosign("leaf", "sig"), 1),
        (cosign("leaf", "att"), 1),
        (cosign("leaf", "latest"), 0),
        (cosign("other", "sig"), 0),
        (latest, 0),
    ] {
        let graph = nested().image("signature", &[]).artifact("a:1", "leaf");
        let plan = graph.found("a", "signature", "leaf", by.clone()).plan();
        assert_eq!(plan.artifacts[0].attached.len(), expected, "{by:?}");
    }
}

proptest! {
    #[test]
    fn what_a_manifest_lists_always_has_its_turn_before_it(
        children in proptest::collection::vec(proptest::collection::vec(0usize..20, 0..4), 1..20),
        roots in proptest::collection::vec(0usize..20, 1..5),
        found in proptest::collection::vec((0usize..20, 0usize..20), 0..6),
    ) {
        let names: Vec<String> = (0..children.len()).map(|node| format!("node {node}")).collect();
        let name = |node: usize| names[node % names.len()].as_str();
        let mut graph = Graph::default();
        for (node, listed) in children.iter().enumerate() {
            // A manifest lists what comes before it, so that there is no circle.
            let listed: Vec<&str> = listed.iter().filter(|child| **child < node).map(|child| name(*child)).collect();
            graph = if listed.is_empty() { graph.image(name(node), &["layer"]) } else { graph.index(name(node), &listed) };
        }
        for (number, root) in roots.iter().enumerate() {
            graph = graph.artifact(&format!("a:{number}"), name(*root));
        }
        for (manifest, subject) in &found {
            graph = graph.found("a", name(*manifest), name(*subject), Discovery::Referrer);
        }
        let views = graph.views.clone();
        let plan = graph.plan();
        let manifests = &plan.repositories[&"a".parse().unwrap()].manifests;
        for (parent, rank) in manifests {
            for child in &views[parent].manifests {
                prop_assert!(manifests[&child.digest] < *rank);
            }
        }
        for artifact in &plan.artifacts {
            prop_assert_eq!(manifests[&artifact.digest].generation, 0);
        }
    }
}
