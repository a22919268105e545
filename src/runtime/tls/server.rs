//! TLS as a server offers it.

use std::{path::PathBuf, sync::Arc};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};

use super::{
    Reloading, TlsError,
    files::{Identity, add_roots},
    provider,
};

/// Who a server is, and whom it lets in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerTls {
    /// What it shows.
    pub identity: Identity,
    /// Clients must show a certificate of this CA; `None`: nothing.
    pub client_ca: Option<PathBuf>,
}

impl ServerTls {
    /// Reads the files. The protocols are those that may be spoken inside, in order of preference.
    ///
    /// # Errors
    /// One of them makes no sense.
    pub fn load(self, protocols: &[&[u8]]) -> Result<Reloading<ServerConfig>, TlsError> {
        let files = self.identity.files().into_iter().chain(self.client_ca.clone()).collect();
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        Reloading::new(files, move || {
            let mut config = self.config()?;
            config.alpn_protocols.clone_from(&protocols);
            Ok(config)
        })
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has what the default versions of TLS need");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                add_roots(path, &mut roots)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .expect("there is a root, and no revocation list");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = self.identity.load()?;
        builder.with_single_cert(chain, key).map_err(|error| self.identity.does_not_fit(&error))
    }
}
