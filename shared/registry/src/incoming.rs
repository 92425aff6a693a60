//! The body of a blob as it arrives: exact in length where the registry said one, and cut where it stands
//! still or crawls.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::Response;
use tokio::time::Instant;

use crate::pace::Permit;
use crate::transport::reason;
use crate::{ByteStream, Limits, RegistryError};

/// How long a stream may be slower than it must before it is cut.
const WINDOW: Duration = Duration::from_secs(60);

/// A body that is being read.
pub(crate) struct Incoming {
    response: Response,
    _permit: Permit,
    host: String,
    operation: String,
    expected: Option<u64>,
    received: u64,
    idle: Duration,
    crawl: Crawl,
}

/// Measures the speed over windows of *waiting*: a reader that pauses is not a slow registry.
#[derive(Debug)]
struct Crawl {
    minimum: u64,
    waited: Duration,
    bytes: u64,
}

impl Crawl {
    /// Counts a piece and the time that was waited for it. `true` where a window was too slow.
    fn too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return false;
        }
        let slow = (self.bytes as f64) < self.minimum as f64 * self.waited.as_secs_f64();
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        slow
    }
}

impl Incoming {
    /// The body of `response`, of exactly `expected` bytes where that is known.
    pub(crate) fn new(
        response: Response,
        permit: Permit,
        host: &str,
        operation: &str,
        expected: Option<u64>,
        limits: &Limits,
    ) -> Self {
        let crawl = Crawl { minimum: limits.minimum_throughput, waited: Duration::ZERO, bytes: 0 };
        let (host, operation) = (host.to_owned(), operation.to_owned());
        Self { response, _permit: permit, host, operation, expected, received: 0, idle: limits.idle, crawl }
    }

    /// The bytes. After an error the stream ends.
    pub(crate) fn into_stream(self) -> ByteStream {
        Box::pin(stream::unfold(Some(self), |state| async {
            let mut incoming = state?;
            match incoming.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(incoming))),
                Ok(None) => None,
                Err(reason) => Some((Err(incoming.broken(reason)), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let asked = Instant::now();
        let piece = match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => return Err(reason(&error)),
            Err(_) => return Err("no bytes for too long".to_owned()),
        };
        self.received += piece.as_ref().map_or(0, Bytes::len) as u64;
        match (&piece, self.expected) {
            (Some(_), Some(expected)) if self.received > expected => {
                Err(format!("more than the {expected} bytes that it announced"))
            }
            (None, Some(expected)) if self.received < expected => {
                Err(format!("it ended after {} of {expected} bytes", self.received))
            }
            (None, _) => Ok(None),
            (Some(bytes), _) if self.crawl.too_slow(asked.elapsed(), bytes.len() as u64) => {
                Err("too slow".to_owned())
            }
            _ => Ok(piece),
        }
    }

    fn broken(&self, reason: String) -> RegistryError {
        let (host, operation) = (self.host.clone(), self.operation.clone());
        RegistryError::Unavailable { host, operation, reason, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_counts_as_slow() {
        let mut crawl = Crawl { minimum: 64 * 1024, waited: Duration::ZERO, bytes: 0 };
        let second = Duration::from_secs(1);
        for _ in 0..59 {
            assert!(!crawl.too_slow(second, 1));
        }
        assert!(crawl.too_slow(second, 1), "60 bytes in a minute");
        for _ in 0..200 {
            assert!(!crawl.too_slow(second, 64 * 1024));
            assert!(!crawl.too_slow(Duration::ZERO, 1));
        }
    }
}
