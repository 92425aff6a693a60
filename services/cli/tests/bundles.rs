//! Bundles on disk: looked into, verified, read by skopeo, and archives of skopeo's own.

mod support;

use anyhow::Result;
use support::*;
use transship_rig::Registry;

async fn exported(home: &Home) -> Result<(Registry, Pusher)> {
    let registry = Registry::start().await?;
    let pusher = Pusher::new(&registry.url());
    push_zoo(&pusher).await?;
    let place = home.directory("out");
    let export = ["export", "--registry", registry.host(), "--to", &place, "--blob", "nightly"];
    home.run(&[&export[..], &["team/app:1", "team/chart:0.1.0"]].concat()).await.ok();
    Ok((registry, pusher))
}

#[tokio::test]
async fn a_bundle_says_what_it_holds() -> Result<()> {
    let home = Home::new();
    exported(&home).await?;
    let list = home.run(&["bundle", "list", "out/nightly"]).await.ok().stdout;
    insta::assert_snapshot!("bundle_list", list);
    let listed = home.run(&["bundle", "list", "out#nightly", "-o", "json"]).await.ok().json();
    assert_eq!((listed[0]["kind"].as_str(), listed[1]["blobs"].as_u64()), (Some("index"), Some(2)));
    let inspected = home.run(&["bundle", "inspect", "out/nightly", "-o", "json"]).await.ok().json();
    let part = &inspected["parts"][0];
    assert_eq!((part["format"].as_str(), part["manifests"].as_u64()), (Some("transship"), Some(4)));
    assert!(part["bill"]["execution"].as_str().unwrap().starts_with("cli-"), "{part}");
    let shown = home.run(&["bundle", "inspect", "out/nightly"]).await.ok().stdout;
    assert!(
        shown.starts_with("bundle      nightly, ") && shown.contains("2 artifacts, 4 manifests"),
        "{shown}"
    );
    let verified = home.run(&["bundle", "verify", "out/nightly"]).await.ok();
    assert!(verified.stdout.starts_with("nightly: 2 artifacts, "), "{verified:#?}");
    assert!(verified.stdout.ends_with(": verified\n"), "{verified:#?}");
    Ok(())
}

#[tokio::test]
async fn skopeo_reads_what_transship_wrote() -> Result<()> {
    let home = Home::new();
    exported(&home).await?;
    let archive = home.path("out/nightly").display().to_string();
    let raw = output("skopeo", &["inspect", "--raw", &format!("oci-archive:{archive}:team/app:1")]).await?;
    let index: serde_json::Value = serde_json::from_str(&raw)?;
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let copy = format!("dir:{}", home.directory("copy"));
    let from = format!("oci-archive:{archive}:team/chart:0.1.0");
    output("skopeo", &["copy", "--preserve-digests", &from, &copy]).await?;
    Ok(())
}

#[tokio::test]
async fn an_archive_of_skopeo_is_looked_into_and_imported_under_a_name() -> Result<()> {
    let home = Home::new();
    let (source, pusher) = exported(&home).await?;
    let target = Registry::start().await?;
    let archive = home.path("image.tar").display().to_string();
    let from = format!("docker://{}/team/app:1", source.host());
    let all = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &from];
    output("skopeo", &[&all[..], &[&format!("oci-archive:{archive}")]].concat()).await?;
    let listed = home.run(&["bundle", "list", "image.tar", "-o", "json"]).await.ok().json();
    assert_eq!((listed[0]["name"].as_str(), listed[0]["kind"].as_str()), (None, Some("index")), "{listed}");
    home.run(&["bundle", "verify", "image.tar"]).await.ok();
    let import = ["import", "--registry", target.host(), "--file", "image.tar"];
    let nameless = home.run(&import).await;
    assert_eq!(nameless.code, 1);
    assert!(nameless.errors().contains("--as repository:tag"), "{nameless:#?}");
    home.run(&[&import[..], &["--as", "mirror/app:one"]].concat()).await.ok();
    let arrived = Pusher::new(&target.url()).read("mirror/app", "one").await?;
    assert_eq!(arrived, pusher.read("team/app", "1").await?);
    Ok(())
}

#[tokio::test]
async fn damage_of_every_kind_is_found() -> Result<()> {
    let home = Home::new();
    exported(&home).await?;
    let whole = std::fs::read(home.path("out/nightly"))?;
    let find = |text: &str| whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    type Damage<'a> = (&'a str, Box<dyn Fn(&mut Vec<u8>) + 'a>);
    let damages: Vec<Damage<'_>> = vec![
        (
            "a byte of the content",
            Box::new(|bytes| {
                let at = bytes.len() - 50_000;
                bytes[at] ^= 1;
            }),
        ),
        ("a byte of the table", Box::new(|bytes| bytes[find("manifestsOffset") + 30] ^= 1)),
        ("a byte of a header", Box::new(|bytes| bytes[find("blobs/sha256/")] ^= 1)),
        ("the end", Box::new(|bytes| bytes.truncate(bytes.len() - 600))),
        ("the second half", Box::new(|bytes| bytes.truncate(bytes.len() / 2))),
        ("something after the end", Box::new(|bytes| bytes.extend([0; 512]))),
        ("a bill of no sense", Box::new(|bytes| bytes[find("\"generation\"") + 3] ^= 1)),
        ("nothing left", Box::new(|bytes| bytes.clear())),
        ("something else", Box::new(|bytes| bytes.fill(b'x'))),
    ];
    for (what, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(home.path("damaged"), &bytes)?;
        let ended = home.run(&["bundle", "verify", "damaged", "-o", "json"]).await;
        assert_eq!(ended.code, 1, "{what}: {ended:#?}");
        assert!(
            ended.errors().starts_with("error: the bundle is damaged\n  caused by: damaged: "),
            "{what}: {ended:#?}"
        );
        assert_eq!(ended.json()["outcome"], "damaged", "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn an_archive_without_artifacts_lists_nothing_as_a_list() -> Result<()> {
    let home = Home::new();
    std::fs::create_dir(home.path("layout"))?;
    home.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    home.write("layout/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    let (tar, layout) =
        (home.path("empty.tar").display().to_string(), home.path("layout").display().to_string());
    output("tar", &["-C", &layout, "-cf", &tar, "oci-layout", "index.json"]).await?;
    assert_eq!(home.run(&["bundle", "list", "empty.tar", "-o", "json"]).await.ok().stdout, "[]\n");
    Ok(())
}
