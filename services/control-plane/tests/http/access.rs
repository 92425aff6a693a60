use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transship_control_plane::api::LimitsConfig;
use transship_control_plane::http::{AuthConfig, TlsConfig};

use crate::scene::{REGISTRY, Scene, With};

async fn guarded() -> (Scene, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let tokens = format!(
        "reader rita {}\nnotifier nina {}\ncontributor carl {}\n",
        hash("read"),
        hash("notify"),
        hash("write")
    );
    std::fs::write(&path, tokens).unwrap();
    let auth = AuthConfig { tokens_file: Some(path), issuers: Vec::new() };
    (Scene::with(With { auth, ..With::default() }).await, folder)
}

fn hash(token: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_reader_reads_a_contributor_changes_and_nobody_else_does_anything() {
    let (scene, _folder) = guarded().await;
    let list = format!("{REGISTRY}/pipelineRuns?api-version=1");
    let one = format!("{REGISTRY}/importPipelines/inbox?api-version=1");
    let pushes = "/transship/v1/webhooks/registry".to_owned();
    for (token, method, path, status) in [
        (None, "GET", &list, 401),
        (Some("wrong"), "GET", &list, 401),
        (Some("read"), "GET", &list, 200),
        (Some("read"), "DELETE", &one, 403),
        (Some("write"), "DELETE", &one, 204),
        (Some("write"), "GET", &list, 200),
        (Some("notify"), "GET", &list, 403),
        (Some("notify"), "DELETE", &one, 403),
        (Some("notify"), "POST", &pushes, 200),
        (Some("read"), "POST", &pushes, 403),
        (Some("write"), "POST", &pushes, 200),
        (None, "GET", &"/openapi.json".to_owned(), 200),
        (None, "GET", &"/transship/v1/health".to_owned(), 401),
        (None, "GET", &"/nowhere".to_owned(), 401),
    ] {
        let request = scene.request(method, path);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = scene.send(request.json(&json!({ "action": "ping" }))).await;
        assert_eq!(answer.status, status, "{token:?} {method} {path}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        if status == 403 {
            let message = answer.body["error"]["message"].as_str().unwrap();
            let has =
                if token == Some("read") { "rita has the role reader" } else { "nina has the role notifier" };
            assert!(message.contains(has) && message.contains("needs the role "), "{message}");
        }
    }
}

#[tokio::test]
async fn who_put_a_resource_is_remembered() {
    let (scene, _folder) = guarded().await;
    let body = json!({ "properties": { "source": {
        "uri": "https://acct.blob.core.windows.net/c", "storageAccessMode": "ManagedIdentity",
    } } });
    let request =
        scene.request("PUT", &format!("{REGISTRY}/importPipelines/inbox?api-version=1")).json(&body);
    let answer = scene.send(request.bearer_auth("write")).await;
    assert_eq!(answer.body["systemData"]["createdBy"], "carl");
}

#[tokio::test]
async fn a_caller_that_asks_too_often_is_told_to_wait() {
    let limits = LimitsConfig { requests_per_second: 2, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    let mut last = scene.get(REGISTRY).await;
    for _ in 0..20 {
        if last.status == 429 {
            break;
        }
        last = scene.get(REGISTRY).await;
    }
    assert_eq!((last.status, last.code(), last.header("retry-after")), (429, "TooManyRequests", Some("1")));
}

#[tokio::test]
async fn clients_that_speak_only_tls_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate_file, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let tls = Some(TlsConfig { certificate_file, key_file });
    let scene = Scene::with(With { tls, ..With::default() }).await;
    assert!(scene.url.starts_with("https://"));
    scene.pipelines().await;
    let run = crate::scene::export_run(&["a:1"]);
    let put = scene.put(&format!("{REGISTRY}/pipelineRuns/nightly"), &run).await;
    let operation = put.header("azure-asyncoperation").unwrap();
    assert!(operation.starts_with("https://"), "{operation}");
    assert_eq!(scene.get(operation).await.status, 200);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_or_its_body_is_cut_off() {
    let limits = LimitsConfig { io_seconds: 1, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    let address = scene.url.trim_start_matches("http://").to_owned();
    let put = format!(
        "PUT {REGISTRY}/pipelineRuns/nightly?api-version=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{"
    );
    for (sent, expected) in [("GET / HTTP/1.1\r\nhost: x\r\nx-slow: ".to_owned(), ""), (put, "HTTP/1.1 408 ")]
    {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read =
            tokio::time::timeout(Duration::from_secs(20), connection.read_to_string(&mut answer)).await;
        assert!(read.is_ok(), "the connection was left open");
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn more_clients_than_there_is_room_for_wait_for_a_place() {
    let limits = LimitsConfig { connections: 1, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    let address = scene.url.trim_start_matches("http://").to_owned();
    let holder = tokio::net::TcpStream::connect(&address).await.unwrap();
    let mut waiting = tokio::net::TcpStream::connect(&address).await.unwrap();
    waiting.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.read_exact(&mut first)).await;
    assert!(early.is_err(), "it was answered though there was no place");
    drop(holder);
    let late = tokio::time::timeout(Duration::from_secs(20), waiting.read_exact(&mut first)).await;
    assert!(late.is_ok_and(|read| read.is_ok()) && &first == b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_directory_is_no_container_unless_an_operator_says_so() {
    let bodies = [
        ("exportPipelines/outbox", json!({ "properties": { "target": { "uri": "file:///tmp/c" } } })),
        ("importPipelines/inbox", json!({ "properties": { "source": { "uri": "file:///tmp/c" } } })),
        ("exportPipelines/louder", json!({ "properties": { "target": { "uri": "FILE:///tmp/c" } } })),
        ("importPipelines/space", json!({ "properties": { "source": { "uri": " file:///tmp/c" } } })),
        ("routes/outward", json!({ "properties": { "sourceUri": "file:///a", "targetUri": "file:///b" } })),
    ];
    for (local_containers, statuses) in [(false, [403; 5]), (true, [200; 5])] {
        let limits = LimitsConfig { local_containers, ..LimitsConfig::default() };
        let scene = Scene::with(With { limits, ..With::default() }).await;
        for ((path, body), status) in bodies.iter().zip(statuses) {
            let answer = scene.put(&format!("{REGISTRY}/{path}"), body).await;
            assert_eq!(answer.status, status, "{path} {}", answer.body);
            assert!(local_containers || answer.code() == "LocalContainersDisabled", "{}", answer.body);
        }
    }
}
