//! What others tell of: blobs that arrived and artifacts that were pushed. A hint is never the truth; whoever takes
//! one looks before anything starts.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use transship_api::{Kind, ResourceId};
use transship_model::BlobName;

use super::Server;
use super::answer::empty;
use crate::check::shown;
use crate::notify::{BlobHint, EventGrid, NotifyError, PushHint, event_grid, registry_push};
use crate::refusal::Refusal;
use crate::trigger::WatchStatus;

/// Who takes hints. The calls return at once; what follows from a hint happens later.
pub trait Hints: Send + Sync {
    /// Somebody says that these blobs have arrived.
    fn blobs_created(&self, blobs: Vec<BlobHint>);

    /// Somebody says that this import pipeline has something to import: this blob, or it does not say which.
    fn look(&self, pipeline: &ResourceId, blob: Option<BlobName>);

    /// A registry says that these artifacts were pushed.
    fn pushed(&self, pushes: Vec<PushHint>);

    /// What the trigger or schedule of this pipeline is doing; `None` where there is none.
    fn watching(&self, pipeline: &ResourceId) -> Option<WatchStatus>;
}

impl Server {
    /// A delivery of Event Grid, the proof that the subscription is wanted included.
    pub(super) fn event_grid(&self, body: &[u8]) -> Result<Response, Refusal> {
        match event_grid(body).map_err(invalid)? {
            EventGrid::Validate(answer) => {
                let mut response = Response::new(Body::from(answer));
                let json = axum::http::HeaderValue::from_static("application/json");
                response.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
                Ok(response)
            }
            EventGrid::Blobs(blobs) => {
                self.hints.blobs_created(blobs);
                Ok(empty(StatusCode::OK))
            }
        }
    }

    /// Push notifications of registries. Each says which host it was pushed to; `name` says which registry that is,
    /// where the host is one that only the sender knows.
    pub(super) fn pushed(&self, name: Option<&str>, body: &[u8]) -> Result<Response, Refusal> {
        let mut pushes = registry_push(body).map_err(invalid)?;
        if let Some(name) = name {
            let found = self.api.registries.resolve(name).ok_or_else(|| {
                let message =
                    format!("The registry {:?} is not in the control plane's configuration.", shown(name));
                Refusal::new(400, "UnknownRegistry", message).at("registry")
            })?;
            pushes.iter_mut().for_each(|push| push.host = Some(found.login_server.clone()));
        }
        self.hints.pushed(pushes);
        Ok(empty(StatusCode::OK))
    }

    /// A hint for one import pipeline: `{"blob": NAME}`, or nothing.
    pub(super) async fn hint(&self, id: &ResourceId, body: &[u8]) -> Result<Response, Refusal> {
        let blob = match body.iter().all(u8::is_ascii_whitespace) {
            true => None,
            false => {
                let value: serde_json::Value = super::body_json(body)?;
                match value.get("blob") {
                    None => None,
                    Some(blob) => {
                        let wrong = || {
                            let message = "blob is the name of a blob: send {\"blob\": NAME} or nothing.";
                            Refusal::new(400, "InvalidRequestContent", message).at("blob")
                        };
                        Some(blob.as_str().ok_or_else(wrong)?.to_owned())
                    }
                }
            }
        };
        let name = blob.map(|name| name.parse::<BlobName>()).transpose();
        let name =
            name.map_err(|error| Refusal::new(400, "InvalidBlobName", format!("{error}.")).at("blob"))?;
        let known = self.api.store.resource(id).await.map_err(crate::api::unavailable)?;
        if known.is_none_or(|record| record.kind != Kind::ImportPipeline) {
            return Err(Refusal::not_found(format!("The import pipeline '{}'", shown(id.name()))));
        }
        self.hints.look(id, name);
        Ok(empty(StatusCode::ACCEPTED))
    }
}

fn invalid(error: NotifyError) -> Refusal {
    Refusal::new(400, "InvalidNotification", format!("{error}."))
}
