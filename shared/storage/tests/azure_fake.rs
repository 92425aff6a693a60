//! The Azure adapter against a server that answers as a test says: Put Block From URL, which no emulator has,
//! and answers that a healthy service never gives.

#[path = "fake/server.rs"]
mod server;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use transship_model::{BlobName, Secret};
use transship_storage::{
    AzureContainer, AzureSettings, BlockId, Condition, CopySource, DeleteBlob as _, ETag, ListedBlob,
    Metadata, ReadContainer as _, SasToken, StorageError, WriteContainer as _,
};

use crate::server::{Fake, answer, refusal, with_body};

const SAS: &str = "sr=c&sp=rwdl&sig=q%2Bw%3D";

fn open(fake: &Fake, settings: AzureSettings) -> Result<AzureContainer> {
    let sas = SasToken::parse(&Secret::new(SAS))?;
    Ok(AzureContainer::new(fake.container.parse()?, Some(sas), settings)?)
}

fn impatient() -> AzureSettings {
    AzureSettings { tries: 3, retry_budget: Duration::from_secs(4), patience: Duration::from_millis(500) }
}

fn name(text: &str) -> BlobName {
    text.parse().expect("a name in a test")
}

fn source() -> CopySource {
    CopySource {
        url: Secret::new("https://source.example/c/b%20x?sr=c&sig=S%2B"),
        range: 100..4_196,
        etag: ETag("\"0xABC\"".into()),
    }
}

async fn copy(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
) -> Result<(Result<(), StorageError>, usize)> {
    let fake = Fake::start(move |_, _| answer(status, headers)).await?;
    let result =
        open(&fake, AzureSettings::default())?.stage_from(&name("b"), &BlockId::new([1]), &source()).await;
    Ok((result, fake.seen().len()))
}

#[tokio::test]
async fn a_server_side_copy_names_source_range_and_version() -> Result<()> {
    let fake = Fake::start(|_, _| answer(201, &[])).await?;
    let id = BlockId::new([0xff; 56]);
    open(&fake, impatient())?.stage_from(&name("dir/b"), &id, &source()).await?;
    let seen = fake.seen();
    let [request] = seen.as_slice() else { anyhow::bail!("{seen:?}") };
    assert_eq!((request.method.as_str(), request.body_length), ("PUT", 0));
    assert_eq!(request.header("x-ms-copy-source"), "https://source.example/c/b%20x?sr=c&sig=S%2B");
    assert_eq!(request.header("x-ms-source-range"), "bytes=100-4195");
    assert_eq!(request.header("x-ms-source-if-match"), "\"0xABC\"");
    assert_eq!(request.header("x-ms-version"), "2025-11-05");
    assert_eq!(request.header("content-length"), "0");
    assert!(request.target.starts_with("/account/c/dir%2Fb?"), "{}", request.target);
    for part in ["comp=block&", "sr=c", "sig=q%2Bw%3D", "blockid=%2F%2F"] {
        assert!(request.target.contains(part), "{}", request.target);
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_cannot_copy_is_asked_once() -> Result<()> {
    let cases: [(u16, &'static [(&str, &str)]); 6] = [
        (501, &[("x-ms-error-code", "APINotImplemented")]),
        (500, &[]),
        (409, &[("x-ms-error-code", "CannotVerifyCopySource")]),
        (404, &[("x-ms-error-code", "CannotVerifyCopySource")]),
        (403, &[("x-ms-error-code", "CannotVerifyCopySource")]),
        (
            403,
            &[
                ("x-ms-error-code", "CannotVerifyCopySource"),
                ("x-ms-copy-source-status-code", "403"),
                ("x-ms-copy-source-error-code", "AuthenticationFailed"),
            ],
        ),
    ];
    for (status, headers) in cases {
        let (result, requests) = copy(status, headers).await?;
        ensure!(matches!(result, Err(StorageError::CopyUnsupported { .. })), "{status}: {result:?}");
        assert_eq!(requests, 1, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_source_that_changed_fails_the_condition() -> Result<()> {
    for code in ["SourceConditionNotMet", "ConditionNotMet", "CannotVerifyCopySource"] {
        let fake = Fake::start(move |_, _| refusal(412, code)).await?;
        let result = open(&fake, impatient())?.stage_from(&name("b"), &BlockId::new([1]), &source()).await;
        ensure!(matches!(result, Err(StorageError::ConditionFailed { .. })), "{code}: {result:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_busy_service_is_asked_again_for_a_copy() -> Result<()> {
    let fake = Fake::start(|number, _| match number {
        0 => refusal(503, "ServerBusy"),
        1 => refusal(500, "OperationTimedOut"),
        _ => answer(201, &[]),
    })
    .await?;
    open(&fake, impatient())?.stage_from(&name("b"), &BlockId::new([1]), &source()).await?;
    assert_eq!(fake.seen().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_wish_to_wait_that_is_too_long_is_passed_on_and_not_waited_for() -> Result<()> {
    let fake = Fake::start(|_, _| answer(503, &[("x-ms-error-code", "ServerBusy"), ("retry-after", "3600")]))
        .await?;
    let began = Instant::now();
    let result = open(&fake, AzureSettings::default())?.list("", None).await;
    let Err(StorageError::Unavailable { retry_after, reason, .. }) = &result else {
        anyhow::bail!("{result:?}")
    };
    assert_eq!((*retry_after, reason.as_str()), (Some(Duration::from_secs(3600)), "ServerBusy"));
    ensure!(began.elapsed() < Duration::from_secs(5) && fake.seen().len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_block_is_sent_again_whole_after_a_failure() -> Result<()> {
    let fake =
        Fake::start(|number, _| if number == 0 { refusal(500, "InternalError") } else { answer(201, &[]) })
            .await?;
    let bytes = Bytes::from(vec![7; 100_000]);
    open(&fake, impatient())?.stage(&name("b"), &BlockId::new([1]), bytes).await?;
    let lengths: Vec<_> = fake.seen().iter().map(|request| request.body_length).collect();
    assert_eq!(lengths, [100_000, 100_000]);
    Ok(())
}

/// A body of which `whole` comes before the connection breaks.
fn broken(whole: &'static str) -> Body {
    Body::from_stream(stream::unfold(0, move |step| async move {
        match step {
            0 => Some((Ok(Bytes::from_static(whole.as_bytes())), 1)),
            1 => {
                // The server sends what it has when it has to wait.
                tokio::task::yield_now().await;
                Some((Err(std::io::Error::other("cut")), 2))
            }
            _ => None,
        }
    }))
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_where_it_broke_and_with_the_same_version() -> Result<()> {
    let fake = Fake::start(|number, _| match number {
        0 => with_body(
            206,
            &[("content-range", "bytes 10-19/100"), ("etag", "\"v1\""), ("content-length", "10")],
            broken("0123"),
        ),
        1 => with_body(
            206,
            &[("content-range", "bytes 14-19/100"), ("etag", "\"v1\""), ("content-length", "6")],
            broken("45"),
        ),
        _ => with_body(206, &[("content-range", "bytes 16-19/100"), ("etag", "\"v1\"")], "6789"),
    })
    .await?;
    assert_eq!(open(&fake, impatient())?.read(&name("b"), 10..20, None).await?, "0123456789");
    let asked: Vec<_> = fake
        .seen()
        .iter()
        .map(|seen| (seen.header("range").to_owned(), seen.header("if-match").to_owned()))
        .collect();
    let expected = [("bytes=10-19", ""), ("bytes=14-19", "\"v1\""), ("bytes=16-19", "\"v1\"")];
    assert_eq!(asked, expected.map(|(range, version)| (range.to_owned(), version.to_owned())));
    Ok(())
}

#[tokio::test]
async fn a_read_that_always_breaks_off_ends() -> Result<()> {
    let fake = Fake::start(|_, _| {
        with_body(206, &[("content-range", "bytes 0-9/10"), ("content-length", "10")], broken(""))
    })
    .await?;
    let result = open(&fake, impatient())?.read(&name("b"), 0..10, None).await;
    ensure!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
    assert_eq!(fake.seen().len(), 5);
    Ok(())
}

#[tokio::test]
async fn bytes_that_were_not_asked_for_are_not_taken() -> Result<()> {
    type Case = (u16, &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 6] = [
        // The range is ignored.
        (200, &[], "0123456789012345678901234567890123456789"),
        (206, &[("content-range", "bytes 0-9/100")], "0123456789"),
        (206, &[("content-range", "bytes 10-29/100")], "01234567890123456789"),
        (206, &[("content-range", "bytes 10-19/100")], "0123456789TOO MUCH"),
        (206, &[("content-range", "bytes 10-18446744073709551615/100")], "0123456789"),
        (206, &[], "0123456789"),
    ];
    for (status, headers, body) in cases {
        let fake = Fake::start(move |_, _| with_body(status, headers, body)).await?;
        let result = open(&fake, impatient())?.read(&name("b"), 10..20, None).await;
        ensure!(matches!(result, Err(StorageError::Unavailable { .. })), "{headers:?}: {result:?}");
    }
    let fake = Fake::start(|_, _| with_body(206, &[("content-range", "bytes 10-14/15")], "01234")).await?;
    let result = open(&fake, impatient())?.read(&name("b"), 10..20, None).await;
    ensure!(matches!(result, Err(StorageError::RangeNotSatisfiable { .. })), "{result:?}");
    Ok(())
}

#[tokio::test]
async fn a_service_that_stalls_is_given_up() -> Result<()> {
    // The answer begins, and then nothing more comes.
    let fake = Fake::start(|_, _| {
        with_body(
            200,
            &[("content-length", "10")],
            Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()),
        )
    })
    .await?;
    let began = Instant::now();
    let container = open(&fake, impatient())?;
    for result in [
        container.read(&name("b"), 0..10, None).await.map(drop),
        container.list("", None).await.map(drop),
        container.committed_blocks(&name("b")).await.map(drop),
    ] {
        ensure!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
    }
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_does_not_fill_the_memory() -> Result<()> {
    for status in [200, 400, 503] {
        let endless = || stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 20])));
        let fake = Fake::start(move |_, _| with_body(status, &[], Body::from_stream(endless()))).await?;
        let result = open(&fake, impatient())?.list("", None).await;
        let Err(StorageError::Refused { code, .. }) = &result else { anyhow::bail!("{status}: {result:?}") };
        ensure!(code.contains("larger than"), "{status}: {code}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_refused_without_repeating_it() -> Result<()> {
    let fake = Fake::start(|_, _| with_body(200, &[("etag", "\"v\"")], "<html>sig=CANARY</html>")).await?;
    let container = open(&fake, impatient())?;
    for result in [
        container.list("", None).await.map(drop),
        container.staged_blocks(&name("b")).await.map(drop),
        container.commit(&name("b"), &[], &Metadata::new(), &Condition::Absent).await.map(drop),
    ] {
        let error = result.expect_err("it makes no sense");
        ensure!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let elsewhere = Fake::start(|_, _| answer(200, &[])).await?;
    let location = format!("{}/b", elsewhere.container);
    let fake = Fake::start(move |_, _| answer(307, &[("location", &location)])).await?;
    let result = open(&fake, impatient())?.properties(&name("b")).await;
    ensure!(matches!(result, Err(StorageError::Refused { .. })), "{result:?}");
    assert_eq!(elsewhere.seen().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_a_success() -> Result<()> {
    // First the connection breaks, then the condition fails because the blob is gone.
    let fake = Fake::start(|number, seen| match (number, seen.method.as_str()) {
        (0, _) => refusal(500, "InternalError"),
        (_, "DELETE") => refusal(412, "ConditionNotMet"),
        _ => refusal(404, "BlobNotFound"),
    })
    .await?;
    open(&fake, impatient())?.delete(&name("b"), &ETag("\"v\"".into())).await?;
    let methods: Vec<_> = fake.seen().iter().map(|seen| seen.method.to_string()).collect();
    assert_eq!(methods, ["DELETE", "DELETE", "HEAD"]);
    Ok(())
}

#[tokio::test]
async fn a_listing_takes_all_that_a_page_can_hold() -> Result<()> {
    let page = "<?xml version=\"1.0\"?><EnumerationResults><Blobs>\
        <Blob><Name>a/b</Name><Properties><Content-Length>7</Content-Length></Properties></Blob>\
        <Blob><Name>not/../ours</Name><Properties><Content-Length>7</Content-Length></Properties></Blob>\
        <Blob><Name Encoded=\"true\">%C3%BC</Name><Properties><Etag>0x8D</Etag><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified><Content-Length>8</Content-Length><CopyStatus>pending</CopyStatus></Properties></Blob>\
        </Blobs><NextMarker>m+1/=</NextMarker></EnumerationResults>";
    let fake = Fake::start(move |_, _| with_body(200, &[], page)).await?;
    let listed = open(&fake, impatient())?.list("a &", Some("m 0&")).await?;
    let blob = |text: &str, length, etag: Option<&str>, modified: Option<&str>, copying| ListedBlob {
        name: name(text),
        length,
        etag: etag.map(|etag| ETag(etag.to_owned())),
        modified: modified.map(|time| time.parse().expect("a time")),
        copying,
    };
    let copied = blob("ü", 8, Some("\"0x8D\""), Some("2024-01-01T00:00:00Z"), true);
    assert_eq!(listed.blobs, [blob("a/b", 7, None, None, false), copied]);
    assert_eq!(listed.next.as_deref(), Some("m+1/="));
    let target = &fake.seen()[0].target;
    for part in ["comp=list", "restype=container", "prefix=a+%26", "marker=m+0%26", "maxresults=5000"] {
        assert!(target.contains(part), "{target}");
    }
    assert_eq!(fake.seen().len(), 1, "one page is one request");
    Ok(())
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

#[tokio::test]
async fn a_block_is_sent_from_the_callers_buffer_and_read_into_one() -> Result<()> {
    const LENGTH: usize = 192 << 20;
    const SLACK: usize = 48 << 20;
    let fake = Fake::start(|_, seen| match seen.method.as_str() {
        "PUT" => answer(201, &[]),
        _ => {
            let pieces = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![7; 1 << 20])));
            let range = format!("bytes 0-{}/{LENGTH}", LENGTH - 1);
            with_body(206, &[("content-range", &range)], Body::from_stream(pieces.take(LENGTH >> 20)))
        }
    })
    .await?;
    let container = open(&fake, AzureSettings::default())?;
    let bytes = Bytes::from(vec![7; LENGTH]);
    let before = peak_memory()?;
    container.stage(&name("b"), &BlockId::new([1]), bytes.clone()).await?;
    let grown = peak_memory()? - before;
    ensure!(grown < SLACK, "sending took {} MiB", grown >> 20);
    drop(bytes);
    // The peak holds one buffer of this length already.
    let read = container.read(&name("b"), 0..LENGTH as u64, None).await?;
    let grown = peak_memory()? - before;
    ensure!(grown < SLACK && read.len() == LENGTH, "reading took {} MiB more than its buffer", grown >> 20);
    assert_eq!(fake.seen()[0].body_length, LENGTH);
    Ok(())
}
