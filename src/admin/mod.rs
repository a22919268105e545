//! The admin server: plain HTTP for operators and their monitoring. It only reads: the latest view,
//! the metrics, and what is known since the start. No request can make the agent's loop wait.
//!
//! | route | answers |
//! |---|---|
//! | `/` | a status page for people; refreshes itself, needs nothing from elsewhere |
//! | `/api/view` | the same as JSON |
//! | `/healthz` | 200: the process lives |
//! | `/readyz` | 200: registered, journal healthy, taking workers; else 503; JSON with the reasons |
//! | `/metrics` | Prometheus' text format ([`Metrics`](crate::runtime::metrics)) |
//! | `/metrics.pb` | the same as protobuf messages (as stock Arroyo) |
//! | `/config` | the settings in effect, as TOML, each with its source; secrets hidden (as stock) |
//! | `/status` | `ok` (as stock) |
//! | `/name` | `arroyo-node` (a stock node calls itself `arroyo-worker`) |
//! | `/details` | JSON: service, version and what else is known since the start (as stock) |
//! | `/debug/pprof/profile` | a CPU profile (as stock): see the module `profile` |
//! | `/debug/pprof/heap` | 403, as stock when it does not sample its allocations: this agent never does |
//!
//! With a key ([`AdminState::key`]) every route demands `Authorization: Bearer KEY`, as stock's do; the
//! metrics may be left out of that.

mod key;
mod page;
mod profile;
mod ready;
pub mod row;
mod summary;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::rpc::service::About;
use crate::{
    machine::View,
    runtime::{metrics::Metrics, ports::Clock},
};
pub use key::Key;
use ready::Readiness;
use summary::Summary;

/// The service's name.
const NAME: &str = "arroyo-node";

/// How long open connections may go on once the server is to end.
const GRACE: Duration = Duration::from_secs(1);

/// What the admin server shows.
#[derive(Clone)]
pub struct AdminState {
    /// The agent's latest state.
    pub view: watch::Receiver<Arc<View>>,
    /// The agent's metrics.
    pub metrics: Arc<Metrics>,
    /// What has been known since the start.
    pub about: Arc<About>,
    /// For ages: of the agent, its workers, the controller's last answer.
    pub clock: Arc<dyn Clock>,
    /// The settings in effect, for people.
    pub settings: Arc<str>,
    /// Without this key nothing is answered; `None`: everybody may ask.
    pub key: Option<Key>,
}

/// Serves until `shutdown` ends, and then for at most a second more.
///
/// # Errors
/// The listener fails for good.
pub async fn serve<L>(
    listener: L,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let closing = CancellationToken::new();
    let begun = closing.clone();
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        shutdown.await;
        closing.cancel();
    });
    let out_of_patience = async {
        begun.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server.into_future() => result,
        () = out_of_patience => Ok(()),
    }
}

/// The routes, for a program that has a server of its own.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/api/view", get(view))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/metrics.pb", get(metrics_pb))
        .route("/config", get(config))
        .route("/debug/pprof/heap", get(no_heap_profile))
        .route("/debug/pprof/profile", get(profile::profile))
        .route("/status", get(async || "ok"))
        .route("/name", get(async || format!("{NAME}\n")))
        .route("/details", get(details))
        .layer(from_fn_with_state(state.clone(), key::demand))
        .layer(map_response(answer_for_now))
        .with_state(state)
}

/// Every answer holds for this moment only, and is what its content type says.
async fn answer_for_now(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn view(State(state): State<AdminState>) -> Json<Summary> {
    Json(Summary::of(&state))
}

async fn readyz(State(state): State<AdminState>) -> impl IntoResponse {
    let readiness = Readiness::of(&state.view.borrow());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.encode())
}

async fn metrics_pb(State(state): State<AdminState>) -> impl IntoResponse {
    let kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                encoding=delimited";
    ([(CONTENT_TYPE, kind)], state.metrics.encode_protobuf())
}

async fn config(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], state.settings.to_string())
}

async fn no_heap_profile() -> impl IntoResponse {
    let message = "heap profiling not activated: arroyo-node does not sample its allocations; how much \
                   memory it has is process_resident_memory_bytes in /metrics\n";
    (StatusCode::FORBIDDEN, message)
}

async fn details(State(state): State<AdminState>) -> Json<Value> {
    let about = &state.about;
    let facts: serde_json::Map<_, _> =
        about.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    Json(json!({
        "service": NAME,
        "version": about.version,
        "machine_id": state.view.borrow().machine.as_str(),
        "controller": about.controller,
        "facts": facts,
        "notices": about.notices,
    }))
}
