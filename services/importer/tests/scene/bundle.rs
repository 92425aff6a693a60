//! Writes small bundles with the bundle room's own functions.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use transship_bundle::{
    Absence, Bill, Discovered, Discovery, Segment, StoredBlob, StoredManifest, TABLE_VERSION, Table,
    TableArtifact, encode_head, end_block,
};
use transship_model::{ArtifactReference, Digest, Execution, MediaType, Part, Tag};

/// A manifest or blob, as other manifests name it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

impl Item {
    pub(crate) fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.size })
    }
}

/// A bundle in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct BundleBuilder {
    pub(crate) artifacts: Vec<TableArtifact>,
    pub(crate) discovered: Vec<Discovered>,
    pub(crate) manifests: Vec<(Item, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) absent: Vec<(Digest, u64, Absence)>,
}

impl BundleBuilder {
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Item {
        let digest = Digest::sha256(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        Item { digest, media_type: media_type.to_owned(), size: bytes.len() as u64 }
    }

    pub(crate) fn layer(&mut self, bytes: &[u8]) -> Item {
        self.blob("application/vnd.oci.image.layer.v1.tar", bytes)
    }

    /// A blob that manifests name and the bundle does not have.
    pub(crate) fn absent(&mut self, media_type: &str, bytes: &[u8], why: Absence) -> Item {
        let (digest, size) = (Digest::sha256(bytes), bytes.len() as u64);
        self.absent.push((digest.clone(), size, why));
        Item { digest, media_type: media_type.to_owned(), size }
    }

    pub(crate) fn manifest(&mut self, media_type: &str, json: &Value) -> Item {
        // Pretty-printed, so that a manifest that was serialised again would show.
        let bytes = serde_json::to_vec_pretty(json).unwrap();
        let item = Item {
            digest: Digest::sha256(&bytes),
            media_type: media_type.to_owned(),
            size: bytes.len() as u64,
        };
        if !self.manifests.iter().any(|(known, _)| known.digest == item.digest) {
            self.manifests.push((item.clone(), bytes));
        }
        item
    }

    /// An image whose config is `name`.
    pub(crate) fn image(&mut self, name: &str, layers: &[Item]) -> Item {
        self.image_of(name, layers, None)
    }

    /// An image that may refer to a subject.
    pub(crate) fn image_of(&mut self, name: &str, layers: &[Item], subject: Option<&Item>) -> Item {
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", format!("config of {name}").as_bytes());
        let layers: Vec<Value> = layers.iter().map(Item::json).collect();
        let mut json = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": config.json(),
            "layers": layers,
            "annotations": { "name": name },
        });
        if let Some(subject) = subject {
            json["subject"] = subject.json();
        }
        self.manifest(MediaType::OCI_MANIFEST, &json)
    }

    pub(crate) fn index(&mut self, children: &[Item]) -> Item {
        let manifests: Vec<Value> = children.iter().map(Item::json).collect();
        let json = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
        self.manifest(MediaType::OCI_INDEX, &json)
    }

    /// Names an artifact.
    pub(crate) fn artifact(&mut self, name: &str, item: &Item) {
        let reference: ArtifactReference = name.parse().unwrap();
        let tag = reference.tag().cloned();
        let digest = item.digest.clone();
        self.artifacts.push(TableArtifact { repository: reference.repository, tag, digest });
    }

    fn discover(&mut self, repository: &str, item: &Item, subject: &Item, by: Discovery) {
        self.discovered.push(Discovered {
            repository: repository.parse().unwrap(),
            digest: item.digest.clone(),
            subject: subject.digest.clone(),
            by,
        });
    }

    /// A referrer of `subject`.
    pub(crate) fn referrer(&mut self, repository: &str, name: &str, subject: &Item) -> Item {
        let layer = self.layer(format!("layer of {name}").as_bytes());
        let item = self.image_of(name, &[layer], Some(subject));
        self.discover(repository, &item, subject, Discovery::Referrer);
        item
    }

    /// The source's fallback index.
    pub(crate) fn fallback(&mut self, repository: &str, subject: &Item, referrers: &[Item]) -> Item {
        let index = self.index(referrers);
        let tag = Tag::referrers_fallback(&subject.digest);
        self.discover(repository, &index, subject, Discovery::FallbackIndex { tag });
        index
    }

    /// A signature that has one of cosign's tags.
    pub(crate) fn cosign(&mut self, repository: &str, name: &str, subject: &Item) -> (Item, Tag) {
        let layer = self.layer(format!("layer of {name}").as_bytes());
        let item = self.image(name, &[layer]);
        let tag: Tag = format!("sha256-{}.sig", subject.digest.hex()).parse().unwrap();
        self.discover(repository, &item, subject, Discovery::CosignTag { tag: tag.clone() });
        (item, tag)
    }

    /// All bytes of manifests and blobs, each distinct one once.
    pub(crate) fn bytes(&self) -> u64 {
        let manifests: u64 = self.manifests.iter().map(|(item, _)| item.size).sum();
        manifests + self.blobs.values().map(|blob| blob.len() as u64).sum::<u64>()
    }

    /// The blob.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (mut manifests, mut content) = (Vec::new(), Vec::new());
        let place = |area: &mut Vec<u8>, digest: &Digest, bytes: &[u8]| {
            let segment = Segment::new(digest, bytes.len() as u64);
            let offset = (area.len() + segment.header().len()) as u64;
            segment.encode_into(bytes, area);
            offset
        };
        let stored_manifests = self.manifests.iter().map(|(item, bytes)| StoredManifest {
            digest: item.digest.clone(),
            media_type: item.media_type.parse().unwrap(),
            size: bytes.len() as u64,
            offset: place(&mut manifests, &item.digest, bytes),
        });
        let stored_manifests = stored_manifests.collect();
        let stored = self.blobs.iter().map(|(digest, bytes)| StoredBlob {
            digest: digest.clone(),
            declared: bytes.len() as u64,
            size: Some(bytes.len() as u64),
            offset: Some(place(&mut content, digest, bytes)),
            absent: None,
        });
        let mut stored: Vec<StoredBlob> = stored.collect();
        stored.extend(self.absent.iter().map(|(digest, declared, why)| StoredBlob {
            digest: digest.clone(),
            declared: *declared,
            size: None,
            offset: None,
            absent: Some(why.clone()),
        }));
        let mut table = Table {
            version: TABLE_VERSION,
            manifests_offset: 0,
            content_offset: 0,
            artifacts: self.artifacts.clone(),
            discovered: self.discovered.clone(),
            manifests: stored_manifests,
            content: stored,
        };
        let execution = Execution { id: "run".parse().unwrap(), generation: 1 };
        let bill = Bill::new(&execution, Part::ONLY, None);
        let (head, _) = encode_head(&mut table, &bill, manifests.len() as u64);
        [head, manifests, content, end_block()].concat()
    }
}
