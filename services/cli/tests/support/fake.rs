//! A small control plane on loopback: it keeps what is put, and plays the runs that a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The only token that it takes.
pub(crate) const TOKEN: &str = "CANARY-token";

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

#[derive(Default)]
pub(crate) struct Inner {
    /// By path in lower case, in the order in which they were made.
    pub(crate) resources: Vec<(String, Value)>,
    pub(crate) heard: Vec<Heard>,
    /// Answers that come before all others: status and `Retry-After`.
    pub(crate) refusals: VecDeque<(u16, &'static str)>,
    /// What each reading of a run adds to it, the last one for ever.
    pub(crate) acts: BTreeMap<String, VecDeque<Value>>,
    /// Answers by path.
    pub(crate) answers: BTreeMap<String, (u16, Value)>,
    pub(crate) page: usize,
}

/// The control plane, until it is dropped.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner { page: 2, ..Inner::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { url, inner, task }
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.inner.lock().unwrap().heard.clone()
    }

    /// The body of the last PUT.
    pub(crate) fn last_put(&self) -> Value {
        self.heard().into_iter().rfind(|heard| heard.method == "PUT").expect("something was put").body
    }

    pub(crate) fn answer(&self, path: &str, status: u16, body: Value) {
        self.inner.lock().unwrap().answers.insert(path.to_ascii_lowercase(), (status, body));
    }

    /// Has the run of this name go through `acts`: what is merged into its properties at each reading.
    pub(crate) fn play(&self, run: &str, acts: &[Value]) {
        self.inner.lock().unwrap().acts.insert(run.to_ascii_lowercase(), acts.iter().cloned().collect());
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    inner.heard.push(Heard {
        method: method.to_string(),
        path: path.clone(),
        query: query.clone(),
        body: body.clone(),
    });
    if let Some((status, retry_after)) = inner.refusals.pop_front() {
        let mut response = error(StatusCode::from_u16(status).unwrap(), "Busy", "Too much at once.");
        response.headers_mut().insert("retry-after", HeaderValue::from_static(retry_after));
        return response;
    }
    if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
        return error(StatusCode::UNAUTHORIZED, "AuthenticationFailed", "The token is not known.");
    }
    if let Some((status, body)) = inner.answers.get(&path.to_ascii_lowercase()) {
        return (StatusCode::from_u16(*status).unwrap(), axum::Json(body.clone())).into_response();
    }
    inner.serve(&method, &path, &query, body)
}

impl Inner {
    fn serve(&mut self, method: &Method, path: &str, query: &str, body: Value) -> Response {
        let key = path.to_ascii_lowercase();
        let at = self.resources.iter().position(|(known, _)| *known == key);
        // .../registries/NAME/KIND/NAME is a resource, .../registries/NAME/KIND a list of them.
        let depth = path.trim_matches('/').split('/').count();
        match (method.as_str(), depth) {
            ("GET", 9) => self.list(&key, query),
            ("GET", _) => match at {
                Some(at) => axum::Json(self.read(at)).into_response(),
                None => error(StatusCode::NOT_FOUND, "ResourceNotFound", &format!("There is no '{path}'.")),
            },
            ("PUT", 10) => self.put(path, body, at),
            ("DELETE", 10) => match at {
                Some(at) => {
                    self.resources.remove(at);
                    StatusCode::OK.into_response()
                }
                None => StatusCode::NO_CONTENT.into_response(),
            },
            _ => error(StatusCode::NOT_FOUND, "InvalidResourceType", "There is nothing of that kind."),
        }
    }

    fn put(&mut self, path: &str, mut body: Value, at: Option<usize>) -> Response {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_run = path.contains("/pipelineRuns/");
        if let Some(at) = at.filter(|at| is_run && self.resources[*at].1["asked"] == body) {
            return (StatusCode::OK, axum::Json(self.read(at))).into_response();
        }
        let asked = body.clone();
        body["id"] = json!(path);
        body["name"] = json!(name);
        body["properties"]["provisioningState"] = json!(if is_run { "Creating" } else { "Succeeded" });
        if is_run {
            body["asked"] = asked;
            body["properties"]["response"] = json!({
                "status": "Running", "progress": {"percentage": "0"}, "startTime": "2026-11-25T20:00:00+00:00"
            });
        } else if body["identity"]["type"] == "SystemAssigned" {
            body["identity"]["principalId"] = json!("00000000-0000-0000-0000-00000000000a");
        }
        let key = path.to_ascii_lowercase();
        match at {
            Some(at) => self.resources[at] = (key, body.clone()),
            None => self.resources.push((key, body.clone())),
        }
        let status = if is_run { StatusCode::CREATED } else { StatusCode::OK };
        (status, axum::Json(body)).into_response()
    }

    fn read(&mut self, at: usize) -> Value {
        let name = self.resources[at].1["name"].as_str().unwrap_or_default().to_ascii_lowercase();
        if let Some(acts) = self.acts.get_mut(&name) {
            let act = if acts.len() > 1 { acts.pop_front() } else { acts.front().cloned() };
            merge(&mut self.resources[at].1["properties"], act.unwrap_or_default());
        }
        self.resources[at].1.clone()
    }

    fn list(&self, key: &str, query: &str) -> Response {
        let below = format!("{key}/");
        let mut all: Vec<&Value> = self
            .resources
            .iter()
            .filter(|(path, _)| path.starts_with(&below))
            .map(|(_, value)| value)
            .collect();
        let skip: usize =
            query.split("skip=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok()).unwrap_or(0);
        let order = if query.contains("createdAt+desc") { "&order=createdAt+desc" } else { "" };
        if !order.is_empty() {
            all.reverse();
        }
        let page: Vec<&&Value> = all.iter().skip(skip).take(self.page).collect();
        let next = skip + page.len();
        let mut body = json!({ "value": page });
        if next < all.len() {
            // A proxy in front of it has another name.
            body["nextLink"] = json!(format!("http://inside.example{key}?api-version=x&skip={next}{order}"));
        }
        axum::Json(body).into_response()
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
