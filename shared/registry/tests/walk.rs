//! The walk, driven without a runtime: what it asks, what it finds, and where it stops.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use transship_model::*;
use transship_registry::*;

/// What a registry would answer, by what is asked.
#[derive(Default)]
struct Shelf {
    manifests: BTreeMap<String, Manifest>,
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
    tags: Vec<Tag>,
    /// What cannot be read, by digest or tag.
    broken: BTreeSet<String>,
    refuses_tags: bool,
}

fn descriptor(digest: &Digest, media_type: &str) -> Descriptor {
    let media_type = media_type.parse().unwrap();
    Descriptor { media_type, digest: digest.clone(), size: 1, urls: Vec::new(), artifact_type: None }
}

fn listed(digest: &Digest, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": 1})
}

impl Shelf {
    fn put(&mut self, tag: Option<&str>, manifest: &Value) -> Digest {
        let bytes = Bytes::from(serde_json::to_vec(manifest).unwrap());
        let digest = Digest::sha256(&bytes);
        let manifest = Manifest { digest: digest.clone(), content_type: None, bytes };
        if let Some(tag) = tag {
            self.manifests.insert(tag.to_owned(), manifest.clone());
            self.tags.push(tag.parse().unwrap());
        }
        self.manifests.insert(digest.to_string(), manifest);
        digest
    }

    fn image(&mut self, tag: Option<&str>, name: &str, subject: Option<&Digest>) -> Digest {
        let mut manifest = json!({"schemaVersion": 2, "config": listed(&Digest::sha256(name.as_bytes()), "a/config"), "layers": []});
        if let Some(subject) = subject {
            manifest["subject"] = listed(subject, MediaType::OCI_MANIFEST);
        }
        self.put(tag, &manifest)
    }

    fn index(&mut self, tag: Option<&str>, children: &[Digest]) -> Digest {
        let media_type = |child: &Digest| {
            let known = self.manifests.get(&child.to_string());
            let is_index = known.is_some_and(|manifest| manifest.bytes.starts_with(b"{\"manifests\""));
            if is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST }
        };
        let children: Vec<_> = children.iter().map(|child| listed(child, media_type(child))).collect();
        self.put(tag, &json!({"manifests": children, "schemaVersion": 2}))
    }

    fn answer(&self, ask: &Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Tags(_) if self.refuses_tags => Err(Failure::permanent(Code::RegistryForbidden, "no list")),
            Ask::Tags(_) => Ok(Answer::Tags(self.tags.clone())),
            Ask::Manifest { selector, .. } if self.broken.contains(&selector.to_string()) => {
                Err(Failure::permanent(Code::DigestMismatch, "other bytes"))
            }
            Ask::Manifest { selector, .. } => match self.manifests.get(&selector.to_string()) {
                Some(manifest) => Ok(Answer::Manifest(manifest.clone())),
                None => Ok(Answer::NotThere),
            },
            Ask::Referrers { subject, .. } if self.broken.contains(&format!("referrers of {subject}")) => {
                Err(Failure::permanent(Code::DigestMismatch, "no list"))
            }
            Ask::Referrers { subject, .. } => {
                let descriptors = self.referrers.get(subject).cloned().unwrap_or_default();
                Ok(Answer::Referrers(Referrers { descriptors, fallback: None }))
            }
        }
    }

    /// Walks to the end. Returns what was found, and how many questions it took.
    fn walk(&self, artifacts: &[&str], limits: WalkLimits) -> Result<(Walked, Vec<Digest>, usize), Failure> {
        let mut walk =
            Walk::new(artifacts.iter().map(|artifact| artifact.parse().unwrap()).collect(), limits);
        let (mut order, mut questions) = (Vec::new(), 0);
        loop {
            let asks = walk.asks();
            if asks.is_empty() {
                return Ok((walk.finish(), order, questions));
            }
            for ask in asks {
                questions += 1;
                order.extend(walk.answer(&ask, self.answer(&ask))?.into_iter().map(|new| new.digest));
            }
        }
    }
}

#[test]
fn everything_below_and_beside_an_artifact_is_found_once() {
    let mut shelf = Shelf::default();
    let (one, two) = (shelf.image(None, "one", None), shelf.image(None, "two", None));
    let inner = shelf.index(None, &[one.clone(), two.clone()]);
    let outer = shelf.index(Some("v1"), &[inner.clone(), one.clone()]);
    let signature = shelf.image(None, "signature", Some(&one));
    let countersignature = shelf.image(None, "countersignature", Some(&signature));
    shelf.referrers.insert(one.clone(), vec![descriptor(&signature, MediaType::OCI_MANIFEST)]);
    shelf.referrers.insert(signature.clone(), vec![descriptor(&countersignature, MediaType::OCI_MANIFEST)]);
    let cosign = shelf.image(Some(&format!("sha256-{}.sig", outer.hex())), "cosign", None);
    let (walked, order, questions) = shelf.walk(&["a:v1"], WalkLimits::default()).unwrap();
    assert_eq!(walked.artifacts[0].1, Ok(outer.clone()));
    for digest in [&one, &two, &inner, &outer, &signature, &countersignature, &cosign] {
        assert_eq!(order.iter().filter(|seen| *seen == digest).count(), 1);
    }
    let found: Vec<_> = walked.found.iter().map(|found| (&found.digest, &found.subject)).collect();
    assert_eq!(found.len(), 3);
    for pair in [(&signature, &one), (&countersignature, &signature), (&cosign, &outer)] {
        assert!(found.contains(&pair));
    }
    // Tags once, each manifest once, the referrers of each once.
    assert_eq!(questions, 1 + 7 + 7);
    let below = closure(&outer, &walked.views);
    assert_eq!(below.manifests.last(), Some(&outer), "children come before their parent");
    assert_eq!(below.manifests.len(), 4);
}

#[test]
fn the_same_registry_gives_the_same_order() {
    let mut shelf = Shelf::default();
    let children: Vec<_> = (0..20).map(|i| shelf.image(None, &i.to_string(), None)).collect();
    shelf.index(Some("a"), &children);
    shelf.index(Some("b"), &children[5..]);
    let order = || shelf.walk(&["r:a", "r:b"], WalkLimits::default()).unwrap().1;
    assert_eq!(order(), order());
}

#[test]
fn referrers_that_refer_to_each_other_without_end_stop_at_the_depth() {
    let mut shelf = Shelf::default();
    let mut subject = shelf.image(Some("v1"), "0", None);
    for i in 1..40 {
        let next = shelf.image(None, &i.to_string(), Some(&subject));
        shelf.referrers.insert(subject, vec![descriptor(&next, MediaType::OCI_MANIFEST)]);
        subject = next;
    }
    shelf.image(Some("v2"), "neighbour", None);
    let walk = |limits| codes(&shelf.walk(&["a:v1", "a:v2"], limits).unwrap().0);
    assert_eq!(walk(WalkLimits::default()), [Some(Code::LimitExceeded), None]);
    assert_eq!(walk(WalkLimits { depth: 40, ..WalkLimits::default() }), [None, None]);
    // What one artifact has too deep another one may have near: then all of it is known.
    let near =
        shelf.walk(&["a:v1", &format!("a@{subject}")], WalkLimits { depth: 38, ..WalkLimits::default() });
    assert_eq!(codes(&near.unwrap().0), [None, None]);
}

#[test]
fn a_wide_index_stops_at_the_number_of_nodes_and_the_same_child_counts_once() {
    let mut shelf = Shelf::default();
    let children: Vec<_> = (0..50).map(|i| shelf.image(None, &i.to_string(), None)).collect();
    shelf.index(Some("wide"), &children);
    shelf.index(Some("same"), &vec![children[0].clone(); 50]);
    // A list of what is nowhere.
    shelf.index(Some("nothing"), &(0..50).map(|i: u64| Digest::sha256(&i.to_be_bytes())).collect::<Vec<_>>());
    let limits = WalkLimits { nodes: 20, ..WalkLimits::default() };
    assert_eq!(shelf.walk(&["a:wide"], limits).map(drop).unwrap_err().code, Code::LimitExceeded);
    let mut walk = Walk::new(vec!["a:nothing".parse().unwrap()], limits);
    let root = walk.asks().into_iter().map(|ask| walk.answer(&ask, shelf.answer(&ask)).map(drop));
    assert_eq!(root.collect::<Result<Vec<_>, _>>().unwrap_err().code, Code::LimitExceeded);
    assert!(shelf.walk(&["a:same"], limits).is_ok());
}

#[test]
fn a_listed_referrer_of_something_else_is_left_out_with_a_warning() {
    let mut shelf = Shelf::default();
    let image = shelf.image(Some("v1"), "image", None);
    let stranger = shelf.image(None, "stranger", Some(&Digest::sha256(b"elsewhere")));
    let gone = Digest::sha256(b"gone");
    let both = [&stranger, &gone].map(|digest| descriptor(digest, MediaType::OCI_MANIFEST));
    shelf.referrers.insert(image, both.into());
    let (walked, order, _) = shelf.walk(&["a:v1"], WalkLimits::default()).unwrap();
    assert!(walked.artifacts[0].1.is_ok() && walked.found.is_empty() && !order.contains(&stranger));
    assert_eq!(walked.warnings.len(), 2);
}

#[test]
fn an_artifact_with_a_child_that_is_missing_fails_and_its_neighbour_does_not() {
    let mut shelf = Shelf::default();
    shelf.index(Some("broken"), &[Digest::sha256(b"missing")]);
    shelf.image(Some("whole"), "whole", None);
    let (walked, ..) = shelf.walk(&["a:broken", "a:whole", "a:nope"], WalkLimits::default()).unwrap();
    let codes: Vec<_> =
        walked.artifacts.iter().map(|(_, result)| result.as_ref().err().map(|f| f.code)).collect();
    assert_eq!(codes, [Some(Code::ArtifactNotFound), None, Some(Code::ArtifactNotFound)]);
}

#[test]
fn what_an_index_lists_and_is_no_manifest_is_content() {
    let mut shelf = Shelf::default();
    let blob = Digest::sha256(b"a blob in an index");
    shelf.put(
        Some("odd"),
        &json!({"schemaVersion": 2, "manifests": [listed(&blob, "application/x-anything")]}),
    );
    let (walked, ..) = shelf.walk(&["a:odd"], WalkLimits::default()).unwrap();
    assert!(walked.artifacts[0].1.is_ok());
    assert!(walked.blobs.contains_key(&blob));
}

/// The codes of the artifacts of a walk, in their order.
fn codes(walked: &Walked) -> Vec<Option<Code>> {
    walked.artifacts.iter().map(|(_, result)| result.as_ref().err().map(|failure| failure.code)).collect()
}

#[test]
fn an_artifact_fails_with_what_belongs_to_it_and_cannot_be_read_and_its_neighbour_does_not() {
    for broken in
        ["referrer", "referrer of the referrer", "child of a referrer", "list of referrers", "cosign"]
    {
        let mut shelf = Shelf::default();
        let (one, image) = (shelf.image(None, "one", None), shelf.image(Some("whole"), "whole", None));
        shelf.index(Some("v1"), std::slice::from_ref(&one));
        let child = shelf.image(None, "child", None);
        let below = listed(&child, MediaType::OCI_MANIFEST);
        let subject = listed(&one, MediaType::OCI_MANIFEST);
        let referrer =
            shelf.put(None, &json!({"manifests": [below], "schemaVersion": 2, "subject": subject}));
        let second = shelf.image(None, "second", Some(&referrer));
        shelf.referrers.insert(one.clone(), vec![descriptor(&referrer, MediaType::OCI_INDEX)]);
        shelf.referrers.insert(referrer.clone(), vec![descriptor(&second, MediaType::OCI_MANIFEST)]);
        let cosign = format!("sha256-{}.sig", image.hex());
        shelf.image(Some(&cosign), "cosign", None);
        let walked = |shelf: &Shelf| shelf.walk(&["a:v1", "a:whole"], WalkLimits::default()).unwrap().0;
        assert_eq!(codes(&walked(&shelf)), [None, None]);
        let (unreadable, failed) = match broken {
            "referrer" => (referrer.to_string(), 0),
            "referrer of the referrer" => (second.to_string(), 0),
            "child of a referrer" => (child.to_string(), 0),
            "list of referrers" => (format!("referrers of {second}"), 0),
            _ => (cosign, 1),
        };
        shelf.broken.insert(unreadable.clone());
        let walked = walked(&shelf);
        let mut expected = [None, None];
        expected[failed] = Some(Code::DigestMismatch);
        assert_eq!(codes(&walked), expected, "{broken}");
        let failure = walked.artifacts[failed].1.as_ref().unwrap_err();
        assert!(broken == "child of a referrer" || failure.message.contains(&unreadable), "{failure}");
    }
}

#[test]
fn the_fallback_tag_is_known_to_be_absent_where_the_list_of_tags_could_be_read() {
    for (refuses_tags, tagged, expected) in [(false, false, false), (false, true, true), (true, false, true)]
    {
        let mut shelf = Shelf { refuses_tags, ..Shelf::default() };
        let image = shelf.image(Some("v1"), "image", None);
        shelf.tags.extend(tagged.then(|| Tag::referrers_fallback(&image)));
        let mut walk = Walk::new(vec!["a:v1".parse().unwrap()], WalkLimits::default());
        for ask in walk.asks() {
            walk.answer(&ask, shelf.answer(&ask)).unwrap();
        }
        let asks = walk.asks();
        let [Ask::Referrers { fallback, .. }] = &asks[..] else { panic!("{asks:?}") };
        assert_eq!(*fallback, expected);
        assert_eq!(walk.finish().warnings.len(), usize::from(refuses_tags));
    }
}

#[test]
fn what_the_walk_keeps_of_manifests_and_of_lists_of_referrers_is_bounded() {
    let mut shelf = Shelf::default();
    let children: Vec<_> = (0..50).map(|i| shelf.image(None, &i.to_string(), None)).collect();
    shelf.index(Some("wide"), &children);
    let image = shelf.image(Some("signed"), "signed", None);
    let referrers =
        (0..50).map(|i: i32| descriptor(&Digest::sha256(&i.to_be_bytes()), MediaType::OCI_MANIFEST));
    shelf.referrers.insert(image, referrers.collect());
    for artifact in ["a:wide", "a:signed"] {
        let limits = WalkLimits { bytes: 10_000, ..WalkLimits::default() };
        assert_eq!(shelf.walk(&[artifact], limits).map(drop).unwrap_err().code, Code::LimitExceeded);
        assert!(shelf.walk(&[artifact], WalkLimits { bytes: 100_000, ..limits }).is_ok(), "{artifact}");
    }
}
