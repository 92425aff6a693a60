//! Registries whose token endpoint is at another host, against a small one on loopback.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use support::Home;

/// Serves `router` on a free port of this machine; where.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
    address
}

#[tokio::test]
async fn credentials_go_to_another_host_only_where_it_is_allowed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let tokens = serve(Router::new().fallback(move || {
        counting.fetch_add(1, Ordering::Relaxed);
        async { (StatusCode::OK, r#"{"token": "anything"}"#) }
    }))
    .await;
    let realm = format!("Bearer realm=\"http://{tokens}/token\",service=\"r\"");
    let registry = serve(Router::new().fallback(move || {
        let realm = realm.clone();
        async move { (StatusCode::UNAUTHORIZED, [("www-authenticate", realm)]).into_response() }
    }))
    .await;
    let home = Home::new();
    let out = home.directory("out");
    let export = ["export", "--registry", &registry, "--to", &out, "--blob", "b", "team/app:1"];
    let refused = home.run(&export).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("leads to http://{tokens}/token, which is not allowed")),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("hint: where you trust that host") && refused.stderr.contains("--allow-host")
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let allowed = home.run(&[&export[..], &["--allow-host", &tokens]].concat()).await;
    assert!(!allowed.stderr.contains("not allowed"), "{allowed:?}");
    assert_ne!(asked.load(Ordering::Relaxed), 0);
}
