//! The key without which the admin server answers nothing: Arroyo's `static-api-key`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::AdminState;

/// A key, and what is shown without it.
#[derive(Clone)]
pub struct Key {
    /// The key itself.
    pub secret: Arc<str>,
    /// Whether the metrics are for everybody: Arroyo's `allow-unauthenticated-metrics`.
    pub metrics_are_open: bool,
}

impl Key {
    fn is_needed_for(&self, path: &str) -> bool {
        !(self.metrics_are_open && ["/metrics", "/metrics.pb"].contains(&path))
    }

    fn is_shown_by(&self, request: &Request) -> bool {
        let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
        let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| same(shown, self.secret.as_bytes()))
    }
}

/// Lets through who has the key, and who needs none.
pub(super) async fn demand(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let refused = state
        .key
        .as_ref()
        .is_some_and(|key| key.is_needed_for(request.uri().path()) && !key.is_shown_by(&request));
    if !refused {
        return next.run(request).await;
    }
    let message = "this admin server wants its key: Authorization: Bearer KEY, where KEY is \
                   admin.auth-mode.api-key\n";
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], message).into_response()
}

/// Compares in a time that does not tell how much of the key was right.
fn same(shown: &[u8], key: &[u8]) -> bool {
    let differences = shown.iter().zip(key).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == key.len() && differences == 0
}
