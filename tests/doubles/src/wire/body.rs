//! Bodies of answers: whole, or as no sound server sends them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// What follows the head of an answer.
pub(crate) enum Payload {
    /// All of it at once.
    Whole(Bytes),
    /// So many more bytes of nothing in particular, in portions.
    Flood { left: u64, portion: Bytes, declared: bool },
    /// A byte at a time.
    Drip { rest: Bytes, pause: Duration, timer: Pin<Box<Sleep>> },
}

impl Payload {
    /// So many bytes, made while they are sent.
    pub(crate) fn flood(bytes: u64, declared: bool) -> Self {
        Self::Flood { left: bytes, portion: Bytes::from_static(&[b' '; 65536]), declared }
    }

    pub(crate) fn drip(text: &str, pause: Duration) -> Self {
        let rest = Bytes::from(text.to_owned());
        Self::Drip { rest, pause, timer: Box::pin(tokio::time::sleep(pause)) }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let portion = match self.get_mut() {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Flood { left, portion, .. } => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(portion.len());
                *left -= size as u64;
                portion.slice(..size)
            }
            Self::Drip { rest, pause, timer } => {
                ready!(timer.as_mut().poll(context));
                timer.as_mut().reset(tokio::time::Instant::now() + *pause);
                rest.split_to(1.min(rest.len()))
            }
        };
        Poll::Ready(Some(portion).filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Flood { left, declared: true, .. } => SizeHint::with_exact(*left),
            Self::Flood { .. } | Self::Drip { .. } => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn every_body_ends() {
        let whole = Payload::Whole(Bytes::from_static(b"abc")).collect().await.expect("it ends");
        assert_eq!(whole.to_bytes(), "abc");
        let flood = Payload::flood(100_000, false).collect().await.expect("it ends");
        assert_eq!(flood.to_bytes().len(), 100_000);
        let drip = Payload::drip("abc", Duration::ZERO).collect().await.expect("it ends");
        assert_eq!(drip.to_bytes(), "abc");
    }
}
