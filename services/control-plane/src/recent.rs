//! A list that is read again once it is no longer recent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::state::StoreError;

/// How old a list may be.
const AGE: Duration = Duration::from_secs(2);

/// A list, and when it was read. Whoever asks while it is read waits for it.
pub(crate) struct Recent<T>(Mutex<Option<(Instant, Arc<Vec<T>>)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Recent<T> {
    /// The list as it is or was a moment ago; `read` is asked where it is older.
    pub(crate) async fn get(
        &self,
        read: impl Future<Output = Result<Vec<T>, StoreError>>,
    ) -> Result<Arc<Vec<T>>, StoreError> {
        let mut list = self.0.lock().await;
        if let Some((read, all)) = list.as_ref()
            && read.elapsed() < AGE
        {
            return Ok(Arc::clone(all));
        }
        let all = Arc::new(read.await?);
        *list = Some((Instant::now(), Arc::clone(&all)));
        Ok(all)
    }
}
