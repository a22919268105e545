//! The admin server of an agent.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio::{net::TcpListener, runtime::Handle};
use tracing::warn;

use super::resolve;
use crate::{
    admin::{self, AdminState, Key},
    cli::tls::identity,
    config::{
        Loaded, Source,
        stock::{AuthMode, DEFAULT_ADMIN_PORT},
    },
    runtime::{
        clock::SystemClock,
        node::BoundNode,
        shutdown::ShutdownGuard,
        tls::{HTTP_1_1, Incoming, ServerTls},
    },
};

/// An admin server that can be reached and does not answer yet.
pub(in crate::cli) struct AdminServer {
    incoming: Incoming,
    pub(super) scheme: &'static str,
    settings: Arc<str>,
    key: Option<Key>,
}

impl AdminServer {
    /// Without TLS, for everybody.
    pub(in crate::cli) fn plain(listener: TcpListener) -> io::Result<Self> {
        let incoming = Incoming::new(listener, None)?;
        Ok(Self { incoming, scheme: "http", settings: "".into(), key: None })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        axum::serve::Listener::local_addr(&self.incoming)
    }
}

/// As configured.
pub(super) async fn bind(settings: &Loaded) -> anyhow::Result<AdminServer> {
    let admin = &settings.stock.admin;
    let tls = server_tls(settings)?;
    let tls = tls.map(|tls| tls.load(&[HTTP_1_1])).transpose();
    let tls = tls.context("cannot serve the status page over TLS")?.map(Arc::new);
    let host = resolve(settings, "admin.bind-address", &admin.bind_address, 0).await?;
    let port = match settings.source("admin.http-port") {
        Source::Default => None,
        _ => Some(admin.http_port),
    };
    let listener = bind_admin(host.ip(), port).await?;
    let bound = listener.local_addr()?;
    if port.is_none() && bound.port() != DEFAULT_ADMIN_PORT {
        warn!(
            "port {DEFAULT_ADMIN_PORT} is taken, by a controller on this machine perhaps: the status \
             page and the metrics are on {bound}; --admin-port or ARROYO__ADMIN__HTTP_PORT chooses a \
             port that stays"
        );
    }
    let key = match &admin.auth_mode {
        AuthMode::StaticApiKey { api_key } if api_key.reveal().is_empty() => {
            bail!("admin.auth-mode.api-key is empty: everybody would have it")
        }
        AuthMode::StaticApiKey { api_key } => Some(Key {
            secret: api_key.reveal().into(),
            metrics_are_open: admin.allow_unauthenticated_metrics,
        }),
        AuthMode::None | AuthMode::Mtls { .. } => None,
    };
    Ok(AdminServer {
        scheme: if tls.is_some() { "https" } else { "http" },
        incoming: Incoming::new(listener, tls)?,
        settings: settings.render().into(),
        key,
    })
}

/// Certificates are demanded only if `auth-mode` says so, not merely since there is a CA.
fn server_tls(settings: &Loaded) -> anyhow::Result<Option<ServerTls>> {
    let stock = &settings.stock;
    let section = if stock.admin.tls.is_some() { "admin.tls" } else { "tls" };
    let Some(tls) = stock.admin_tls() else {
        anyhow::ensure!(
            !matches!(stock.admin.auth_mode, AuthMode::Mtls { .. }),
            "admin.auth-mode.type is mtls, and {section}.enabled is false"
        );
        return Ok(None);
    };
    let client_ca = match &stock.admin.auth_mode {
        AuthMode::None | AuthMode::StaticApiKey { .. } => None,
        AuthMode::Mtls { ca_cert_file } => {
            let ca = tls.mtls_ca_file.clone().or_else(|| ca_cert_file.clone());
            Some(ca.with_context(|| {
                format!(
                    "admin.auth-mode.type is mtls, and neither {section}.mtls-ca-file nor \
                     admin.auth-mode.ca-cert-file names the CA"
                )
            })?)
        }
    };
    Ok(Some(ServerTls { identity: identity(tls, section)?, client_ca }))
}

/// The port that was asked for, or else the usual one, or else any.
pub(in crate::cli) async fn bind_admin(
    ip: IpAddr,
    port: Option<u16>,
) -> anyhow::Result<TcpListener> {
    let bind = |port| async move { TcpListener::bind(SocketAddr::new(ip, port)).await };
    match port {
        Some(port) => bind(port).await.with_context(|| {
            format!(
                "cannot bind {ip}:{port} for the status page; a controller on this machine uses \
                 the same default: choose another with ARROYO__ADMIN__HTTP_PORT or --admin-port"
            )
        }),
        None => match bind(DEFAULT_ADMIN_PORT).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(0).await.with_context(|| format!("cannot bind a port of {ip}")),
        },
    }
}

/// Runs an agent with its admin server, the latter on this other runtime.
pub(in crate::cli) async fn run_with_admin(
    node: BoundNode,
    admin: AdminServer,
    guard: ShutdownGuard,
    side: Handle,
) -> anyhow::Result<()> {
    let state = AdminState {
        view: node.view(),
        metrics: node.metrics(),
        about: node.about(),
        clock: Arc::new(SystemClock),
        settings: admin.settings,
        key: admin.key,
    };
    let (ended, stop) = tokio::sync::oneshot::channel::<()>();
    let page = side.spawn(admin::serve(admin.incoming, state, async move {
        let _ = stop.await;
    }));
    let result = node.run(guard).await;
    drop(ended);
    page.abort();
    result
}
