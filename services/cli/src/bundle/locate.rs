//! `FILE` or `PLACE#NAME`: where the bundle is that a person means.

use std::path::Path;
use std::sync::Arc;

use transship_model::{BlobName, Failure, Part};
use transship_storage::{Access, Container, Containers};

use super::parts::{BundlePart, find_parts};
use crate::exit::{Exit, Problem};
use crate::hints::of_store;
use crate::place::{of_directory, parse_place};
use crate::sas::{SOURCE_SAS, Store, TARGET_SAS, containers};

/// A bundle that was found.
pub(crate) struct Located {
    /// What opens its container.
    pub(crate) containers: Arc<Containers>,
    /// Its container.
    pub(crate) container: Arc<dyn Container>,
    /// How a token for the container is given.
    pub(crate) store: Store,
    /// All its parts.
    pub(crate) parts: Vec<BundlePart>,
}

/// Finds the bundle that `text` names: a file, or all parts of NAME in PLACE.
///
/// # Errors
/// Where there is none, with what to do instead.
pub(crate) async fn locate(text: &str, sas_file: Option<&Path>) -> Result<Located, Problem> {
    let path = Path::new(text);
    if path.is_file() {
        return locate_file(path).await;
    }
    let Some((place, name)) = text.rsplit_once('#') else {
        let problem = match path.is_dir() || text.contains("://") {
            true => Problem::usage(format!("{text} holds bundles and is none")),
            false => Problem::new(Exit::Failed, format!("there is no file {text}")),
        };
        return Err(problem.hint("name a file, or a bundle in a place as PLACE#NAME, such as ./out#nightly"));
    };
    let name: BlobName = name.parse().map_err(|error: transship_model::BlobNameError| {
        Problem::usage(error.to_string()).hint("what follows the # is the name of the bundle in its place")
    })?;
    let place = parse_place(place)?;
    let store = Store::new("bundle-sas", place, sas_file, "--sas-file", &[TARGET_SAS, SOURCE_SAS]);
    locate_in(store, &name, Access::READ).await
}

/// Finds all parts of the bundle `name` in the container of `store`, which is opened for `access`.
///
/// # Errors
/// Where there are none, or where the token does not do.
pub(crate) async fn locate_in(store: Store, name: &BlobName, access: Access) -> Result<Located, Problem> {
    let containers = Arc::new(containers(&[&store])?);
    let container = containers.open(&store.url, store.credential().as_ref(), access).await;
    let container = container.map_err(|failure| of_store(failure, &store))?;
    let parts = find_parts(&*container, name).await;
    let parts = parts.map_err(|failure| of_store(failure, &store))?;
    Ok(Located { containers, container, store, parts })
}

/// The bundle in the file `path`.
///
/// # Errors
/// Where it is not a file that can be read.
pub(crate) async fn locate_file(path: &Path) -> Result<Located, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new(Exit::Failed, format!("there is no file {}", path.display())).caused_by(&error)
    };
    // A container does not follow links, and this one was named by the person who means its target.
    let path = path.canonicalize().map_err(unreadable)?;
    let refused = || Problem::usage(format!("{} cannot be the name of a bundle", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
    let blob: BlobName =
        name.parse().map_err(|error: transship_model::BlobNameError| refused().caused_by(&error))?;
    let directory = of_directory(path.parent().ok_or_else(refused)?)?;
    let store = Store::new("bundle-sas", directory, None, "--sas-file", &[]);
    let containers = Arc::new(containers(&[&store])?);
    let container = containers.open(&store.url, None, Access::READ).await?;
    let properties = container.properties(&blob).await.map_err(Failure::from)?.ok_or_else(refused)?;
    Ok(Located {
        containers,
        container,
        store,
        parts: vec![BundlePart { part: Part::ONLY, blob, properties }],
    })
}
