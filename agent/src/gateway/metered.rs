//! A body whose bytes are taken from an allowance.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::sandbox::egress::Allowance;

/// A body that ends in an error when the allowance does not cover it.
pub(super) struct Metered<B> {
    body: B,
    allowance: Allowance,
}

/// The allowance is used up.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("more bytes than a sandbox may exchange with its model")]
pub(super) struct TooMuch;

impl<B> Metered<B> {
    pub(super) const fn new(body: B, allowance: Allowance) -> Self {
        Self { body, allowance }
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if self.allowance.take(bytes) {
                return Ok(frame);
            }
            // Less would have fitted; but a stream that was cut is not worth its rest.
            self.allowance.use_up();
            Err(TooMuch.into())
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
