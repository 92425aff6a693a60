//! A zoo: one artifact of each kind that transship must carry byte for byte.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Client, content};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An animal of the zoo.
#[derive(Debug, Clone)]
pub struct Animal {
    /// How a run names it.
    pub reference: String,
    /// What is special about it.
    pub kind: &'static str,
}

/// Builds the zoo in a registry.
struct Keeper<'a> {
    client: &'a Client,
    animals: Vec<Animal>,
}

/// Puts all animals into the registry, and returns them.
pub async fn fill(client: &Client) -> Result<Vec<Animal>> {
    let mut keeper = Keeper { client, animals: Vec::new() };
    keeper.images().await?;
    keeper.docker().await?;
    keeper.indexes().await?;
    keeper.artifacts().await?;
    keeper.odd_layers().await?;
    keeper.names().await?;
    keeper.referrers().await?;
    Ok(keeper.animals)
}

impl Keeper<'_> {
    fn show(&mut self, reference: impl Into<String>, kind: &'static str) {
        self.animals.push(Animal { reference: reference.into(), kind });
    }

    async fn layer(&self, repository: &str, name: &str, size: usize) -> Result<Value> {
        self.client.blob(repository, content(name, size), LAYER).await
    }

    async fn config(&self, repository: &str, name: &str) -> Result<Value> {
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "name": name});
        self.client.blob(repository, serde_json::to_vec(&config)?, CONFIG).await
    }

    /// An image with layers of these sizes, pretty-printed as no writer of ours would.
    async fn image(&self, repository: &str, tag: Option<&str>, sizes: &[usize]) -> Result<Value> {
        let config = self.config(repository, &format!("{repository} {tag:?} {sizes:?}")).await?;
        let mut layers = Vec::new();
        for size in sizes {
            layers.push(self.layer(repository, &format!("{repository} {size}"), *size).await?);
        }
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.client.manifest(repository, tag, serde_json::to_vec_pretty(&manifest)?, OCI_MANIFEST).await
    }

    async fn index(&self, repository: &str, tag: Option<&str>, children: &[Value]) -> Result<Value> {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
        self.client.manifest(repository, tag, serde_json::to_vec(&index)?, OCI_INDEX).await
    }

    async fn images(&mut self) -> Result<()> {
        self.image("zoo/plain", Some("1.0"), &[1_000, 300_000, 12_000_000]).await?;
        self.show("zoo/plain:1.0", "image, pretty-printed");
        let config = self.config("zoo/untyped", "untyped").await?;
        let layer = self.layer("zoo/untyped", "untyped", 5_000).await?;
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        self.client
            .manifest("zoo/untyped", Some("1.0"), serde_json::to_vec(&manifest)?, OCI_MANIFEST)
            .await?;
        self.show("zoo/untyped:1.0", "image without mediaType");
        Ok(())
    }

    async fn docker(&mut self) -> Result<()> {
        let mut children = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let config = json!({"architecture": architecture, "os": "linux"});
            let config = self
                .client
                .blob(
                    "zoo/docker",
                    serde_json::to_vec(&config)?,
                    "application/vnd.docker.container.image.v1+json",
                )
                .await?;
            let layer = content(architecture, 40_000);
            let layer = self
                .client
                .blob("zoo/docker", layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")
                .await?;
            let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": [layer]});
            let bytes = serde_json::to_vec_pretty(&manifest)?;
            let mut child =
                self.client.manifest("zoo/docker", Some(architecture), bytes, DOCKER_MANIFEST).await?;
            child["platform"] = json!({"architecture": architecture, "os": "linux"});
            children.push(child);
        }
        self.show("zoo/docker:amd64", "Docker schema 2");
        let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": children});
        self.client.manifest("zoo/docker", Some("list"), serde_json::to_vec(&list)?, DOCKER_LIST).await?;
        self.show("zoo/docker:list", "Docker manifest list");
        Ok(())
    }

    async fn indexes(&mut self) -> Result<()> {
        let mut image = self.image("zoo/attested", None, &[70_000]).await?;
        image["platform"] = json!({"architecture": "amd64", "os": "linux"});
        let statement = self
            .client
            .blob("zoo/attested", content("statement", 900), "application/vnd.in-toto+json")
            .await?;
        let config = self.config("zoo/attested", "attestation").await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]});
        let mut attestation =
            self.client.manifest("zoo/attested", None, serde_json::to_vec(&manifest)?, OCI_MANIFEST).await?;
        attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]});
        self.index("zoo/attested", Some("1.0"), &[image, attestation]).await?;
        self.show("zoo/attested:1.0", "index with attestations");
        let leaf = self.image("zoo/nested", None, &[2_000]).await?;
        let inner = self.index("zoo/nested", None, std::slice::from_ref(&leaf)).await?;
        let middle = self.index("zoo/nested", None, &[inner, leaf]).await?;
        self.index("zoo/nested", Some("deep"), &[middle]).await?;
        self.show("zoo/nested:deep", "index nested three deep");
        Ok(())
    }

    async fn artifacts(&mut self) -> Result<()> {
        let config = self
            .client
            .blob("zoo/chart", content("chart config", 150), "application/vnd.cncf.helm.config.v1+json")
            .await?;
        let chart = self
            .client
            .blob("zoo/chart", content("chart", 9_000), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
            .await?;
        let provenance = self
            .client
            .blob(
                "zoo/chart",
                content("provenance", 700),
                "application/vnd.cncf.helm.chart.provenance.v1.prov",
            )
            .await?;
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [chart, provenance]});
        self.client
            .manifest("zoo/chart", Some("0.1.0"), serde_json::to_vec(&manifest)?, OCI_MANIFEST)
            .await?;
        self.show("zoo/chart:0.1.0", "Helm chart with provenance");
        let empty =
            self.client.blob("zoo/artifact", b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
        let unknown = self
            .client
            .blob("zoo/artifact", content("rocket", 4_000), "application/vnd.acme.rocket.v7+fuel")
            .await?;
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.acme.rocket", "config": empty, "layers": [unknown]});
        self.client
            .manifest("zoo/artifact", Some("v7"), serde_json::to_vec(&manifest)?, OCI_MANIFEST)
            .await?;
        self.show("zoo/artifact:v7", "artifact, empty config, unknown types");
        Ok(())
    }

    async fn odd_layers(&mut self) -> Result<()> {
        let config = self.config("zoo/odd", "odd").await?;
        let (nothing, some) =
            (self.layer("zoo/odd", "nothing", 0).await?, self.layer("zoo/odd", "some", 30).await?);
        for (tag, layers, kind) in [
            ("empty-layer", vec![nothing], "zero-byte layer"),
            ("twice", vec![some.clone(), some], "the same layer twice"),
        ] {
            let manifest =
                json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
            self.client.manifest("zoo/odd", Some(tag), serde_json::to_vec(&manifest)?, OCI_MANIFEST).await?;
            self.show(format!("zoo/odd:{tag}"), kind);
        }
        let contents = (0..3000).map(|i| content(&format!("layer {i}"), 64)).collect();
        let layers = self.client.blobs("zoo/many", contents, LAYER).await?;
        let config = self.config("zoo/many", "many").await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.client.manifest("zoo/many", Some("3000"), serde_json::to_vec(&manifest)?, OCI_MANIFEST).await?;
        self.show("zoo/many:3000", "3,000 layers");
        Ok(())
    }

    async fn names(&mut self) -> Result<()> {
        for tag in ["a", "b", "c"] {
            let config = self.config("zoo/tags", "one image").await?;
            let manifest =
                json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []});
            self.client.manifest("zoo/tags", Some(tag), serde_json::to_vec(&manifest)?, OCI_MANIFEST).await?;
            self.show(format!("zoo/tags:{tag}"), "one image under many tags");
        }
        let deep = format!("zoo/{}end", "d/".repeat(40));
        self.image(&deep, Some("1"), &[10]).await?;
        self.show(format!("{deep}:1"), "deep repository path");
        let tag = "T".repeat(128);
        self.image("zoo/long", Some(&tag), &[11]).await?;
        self.show(format!("zoo/long:{tag}"), "tag of 128 characters");
        let image = self.image("zoo/untagged", None, &[12]).await?;
        self.show(
            format!("zoo/untagged@{}", image["digest"].as_str().unwrap_or_default()),
            "named by digest only",
        );
        Ok(())
    }

    async fn referrers(&mut self) -> Result<()> {
        let image = self.image("zoo/signed", Some("1.0"), &[6_000]).await?;
        let hex = |of: &Value| of["digest"].as_str().unwrap_or_default().replace(':', "-");
        let signature = self
            .client
            .blob("zoo/signed", content("cosign", 250), "application/vnd.dev.cosign.simplesigning.v1+json")
            .await?;
        let config = self.config("zoo/signed", "signature").await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [signature]});
        let tag = format!("{}.sig", hex(&image));
        self.client.manifest("zoo/signed", Some(&tag), serde_json::to_vec(&manifest)?, OCI_MANIFEST).await?;
        let mut subject = image;
        for kind in ["application/spdx+json", "application/vnd.acme.signature"] {
            let empty =
                self.client.blob("zoo/signed", b"{}".to_vec(), "application/vnd.oci.empty.v1+json").await?;
            let blob = self.client.blob("zoo/signed", content(kind, 400), kind).await?;
            let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": empty, "layers": [blob], "subject": subject});
            let referrer = self
                .client
                .manifest("zoo/signed", None, serde_json::to_vec(&manifest)?, OCI_MANIFEST)
                .await?;
            // The registry has no referrers API, so the list stands under the fallback tag.
            self.index("zoo/signed", Some(&hex(&subject)), std::slice::from_ref(&referrer)).await?;
            subject = referrer;
        }
        self.show("zoo/signed:1.0", "cosign signature, referrers of referrers");
        Ok(())
    }
}
