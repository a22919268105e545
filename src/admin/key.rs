//! The key without which the admin server answers nothing: Arroyo's `static-api-key`.

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

/// Lets through who has the key.
pub(super) async fn demand(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(key) = &state.key else { return next.run(request).await };
    let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
    match shown {
        Some(shown) if same(shown, key.as_bytes()) => next.run(request).await,
        _ => {
            let message = "this admin server wants its key: Authorization: Bearer KEY, where KEY is \
                           admin.auth-mode.api-key\n";
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], message).into_response()
        }
    }
}

/// Compares in a time that does not tell how much of the key was right.
fn same(shown: &[u8], key: &[u8]) -> bool {
    let differences = shown.iter().zip(key).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == key.len() && differences == 0
}
