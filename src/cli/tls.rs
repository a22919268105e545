//! From Arroyo's `tls` sections to who shows what to whom.
//!
//! A server goes by its own section. A client goes by its copy of the server's: whether there is TLS,
//! and, where that demands certificates, that it must show its own.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    config::stock::{Stock, Tls},
    runtime::tls::{ClientTls, Identity, ServerTls},
};

/// A service that has a `tls` section.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    Node,
    Controller,
}

impl Service {
    /// What this service's section says, or else the global one, and how that section is called.
    fn section(self, stock: &Stock) -> (&Tls, &'static str) {
        let (own, name) = match self {
            Self::Node => (&stock.node.tls, "node.tls"),
            Self::Controller => (&stock.controller.tls, "controller.tls"),
        };
        own.as_ref().map_or((&stock.tls, "tls"), |own| (own, name))
    }
}

/// How a service serves; `None`: without TLS.
pub(super) fn server(stock: &Stock, service: Service) -> anyhow::Result<Option<ServerTls>> {
    let (tls, section) = service.section(stock);
    if !tls.enabled {
        return Ok(None);
    }
    let client_ca = tls.mtls_ca_file.clone();
    Ok(Some(ServerTls { identity: identity(tls, section)?, client_ca }))
}

/// How one service calls another; `None`: without TLS.
pub(super) fn client(
    stock: &Stock,
    caller: Service,
    called: Service,
) -> anyhow::Result<Option<ClientTls>> {
    let (target, _) = called.section(stock);
    if !target.enabled {
        return Ok(None);
    }
    let mut client = ClientTls { ca: target.mtls_ca_file.clone(), identity: None };
    if target.mtls_ca_file.is_some() {
        let (tls, section) = caller.section(stock);
        let called = format!("{called:?}").to_lowercase();
        anyhow::ensure!(
            tls.enabled,
            "the {called} demands certificates (mtls-ca-file is set in its settings), and \
             {section}.enabled is false: enable it and set {section}.cert-file and {section}.key-file"
        );
        client.identity = Some(identity(tls, section)?);
    }
    Ok(Some(client))
}

/// A certificate and its key, both of which a server needs.
pub(super) fn identity(tls: &Tls, section: &str) -> anyhow::Result<Identity> {
    let file = |name: &str, path: &Option<PathBuf>| {
        path.clone().with_context(|| {
            format!("{section}.enabled is true, and {section}.{name} names no file")
        })
    };
    Ok(Identity {
        cert_file: file("cert-file", &tls.cert_file)?,
        key_file: file("key-file", &tls.key_file)?,
    })
}
