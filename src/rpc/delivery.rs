//! Knowing when a response has left.
//!
//! A service puts the [`Receipt`] of its reply into the response's extensions; this layer moves it
//! into the body, which the HTTP/2 connection drops once it has taken all of it, or once the caller
//! has gone. Either way the receipt is dropped, and the machine hears of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::{Response, Status};

use crate::mailbox::Receipt;

#[derive(Clone)]
struct Delivery(#[expect(dead_code, reason = "held for its Drop")] Arc<Receipt>);

/// A response that holds its receipt until it has left.
pub(super) fn with_receipt<T>(message: T, receipt: Receipt) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(Delivery(Arc::new(receipt)));
    response
}

/// The layer's function: see the module.
pub(super) fn hold_receipt(
    mut response: http::Response<tonic::body::Body>,
) -> http::Response<tonic::body::Body> {
    match response.extensions_mut().remove::<Delivery>() {
        None => response,
        Some(delivery) => {
            response.map(|body| tonic::body::Body::new(Held { body, _delivery: delivery }))
        }
    }
}

struct Held {
    body: tonic::body::Body,
    _delivery: Delivery,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
