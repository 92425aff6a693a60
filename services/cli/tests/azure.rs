//! From one registry to another through two storage accounts.

mod support;

use anyhow::Result;
use support::*;
use transship_rig::{Azurite, Registry, Side};

#[tokio::test]
async fn artifacts_go_through_two_storage_accounts() -> Result<()> {
    let source = Registry::start().await?;
    let target = Registry::start().await?;
    let (from, to) = (Pusher::new(&source.url()), Pusher::new(&target.url()));
    push_zoo(&from).await?;
    let accounts = (Azurite::shared(Side::Source).await?, Azurite::shared(Side::Target).await?);
    let via = accounts.0.container("via").await?;
    let copy = accounts.1.container("copy").await?;
    let mut home = Home::new();
    home.set("TRANSSHIP_SOURCE_SAS", &via.full_sas());
    let file = home.write("copy.sas", &format!("?{}\n", copy.full_sas()));
    let arguments = [
        "transfer",
        "--from-registry",
        source.host(),
        "--to-registry",
        target.host(),
        "--via",
        &via.url,
        "--copy-to",
        &copy.url,
        "--copy-to-sas-file",
        &file,
        "--blob",
        "nightly",
        "team/app:1",
        "-o",
        "json",
    ];
    let report = home.run(&arguments).await.ok().json();
    assert_eq!(report["totals"]["artifacts"]["moved"], 1, "{report}");
    assert_eq!(to.read("team/app", "1").await?, from.read("team/app", "1").await?);
    let again = home.run(&arguments).await.ok().json();
    for stage in again["totals"]["stages"].as_array().unwrap() {
        assert_eq!(stage["bytes"]["moved"], 0, "{stage}");
    }
    // The container that bundles are imported from is looked into with the same token.
    home.set("TRANSSHIP_TARGET_SAS", &copy.full_sas());
    home.run(&["bundle", "verify", &format!("{}#nightly", copy.url)]).await.ok();
    Ok(())
}
