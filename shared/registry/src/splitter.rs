//! One stream of content, handed out in pieces of a given length without holding any of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;

use crate::outgoing::ContentStream;

/// Cuts a stream into consecutive pieces. A piece is read to its end before the next one is taken.
pub(crate) struct Splitter(Arc<Mutex<Shared>>);

struct Shared {
    stream: ContentStream,
    /// What was read beyond the end of a piece.
    rest: Bytes,
}

struct Piece {
    shared: Arc<Mutex<Shared>>,
    left: u64,
}

impl Splitter {
    pub(crate) fn new(stream: ContentStream) -> Self {
        Self(Arc::new(Mutex::new(Shared { stream, rest: Bytes::new() })))
    }

    /// The next `length` bytes, or fewer where the stream ends.
    pub(crate) fn take(&self, length: u64) -> ContentStream {
        Box::pin(Piece { shared: self.0.clone(), left: length })
    }
}

impl Stream for Piece {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let shared = self.shared.clone();
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.rest.is_empty() {
            match shared.stream.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => shared.rest = bytes,
                other => return other,
            }
        }
        let length = self.left.min(shared.rest.len() as u64);
        self.left -= length;
        // At most the length of one buffer, so it fits.
        Poll::Ready(Some(Ok(shared.rest.split_to(length as usize))))
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, TryStreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn pieces_are_consecutive_whatever_the_buffers_are() {
        let buffers = ["", "abcde", "f", "ghij", "", "kl"].map(|text| Ok(Bytes::from(text)));
        let splitter = Splitter::new(Box::pin(stream::iter(buffers)));
        let mut pieces = Vec::new();
        for length in [3, 0, 5, 2, 100] {
            let piece: Vec<Bytes> = splitter.take(length).try_collect().await.unwrap();
            pieces.push(String::from_utf8(piece.concat()).unwrap());
        }
        assert_eq!(pieces, ["abc", "", "defgh", "ij", "kl"]);
        assert!(splitter.take(1).next().await.is_none());
    }
}
