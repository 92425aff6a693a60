//! The beginning of a stream of content: what one request of an upload carries.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;

use crate::outgoing::ContentStream;

struct Beginning {
    stream: ContentStream,
    left: u64,
}

/// The first `length` bytes of `stream`, or fewer where it ends before. What it read beyond them is dropped.
pub(crate) fn beginning(stream: ContentStream, length: u64) -> ContentStream {
    Box::pin(Beginning { stream, left: length })
}

impl Stream for Beginning {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match self.stream.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(mut bytes))) => {
                // At most the length of the buffer, so it fits.
                bytes.truncate(self.left.min(bytes.len() as u64) as usize);
                self.left -= bytes.len() as u64;
                Poll::Ready(Some(Ok(bytes)))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, TryStreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_beginning_is_as_long_as_it_should_be_whatever_the_buffers_are() {
        for (length, expected) in [(0, ""), (3, "abc"), (5, "abcde"), (8, "abcdefgh"), (100, "abcdefghijkl")]
        {
            let buffers = ["", "abcde", "f", "ghij", "", "kl"].map(|text| Ok(Bytes::from(text)));
            let piece = beginning(Box::pin(stream::iter(buffers)), length);
            let read: Vec<Bytes> = piece.try_collect().await.unwrap();
            assert_eq!(read.concat(), expected.as_bytes(), "{length}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_fails_fails_its_beginning() {
        let buffers = [Ok(Bytes::from("a")), Err(std::io::Error::other("gone"))];
        let mut piece = beginning(Box::pin(stream::iter(buffers)), 10);
        assert_eq!(piece.next().await.unwrap().unwrap(), "a");
        assert!(piece.next().await.unwrap().is_err());
    }
}
