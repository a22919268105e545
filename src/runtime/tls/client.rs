//! TLS as a client wants it, and the connector that uses it.

use std::{io, path::PathBuf, sync::Arc};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt as _};

use super::{
    Connection, H2, Reloading, TlsError,
    explain::{Side, explain},
    files::{Identity, add_roots},
    provider,
};

/// Whom a client trusts, and who it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientTls {
    /// A CA to trust, besides those that this system trusts.
    pub ca: Option<PathBuf>,
    /// What to show to a server that asks.
    pub identity: Option<Identity>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them makes no sense, or there is nobody to trust.
    pub fn load(self) -> Result<Reloading<ClientConfig>, TlsError> {
        let identity = self.identity.iter().flat_map(Identity::files);
        let files = identity.chain(self.ca.clone()).collect();
        Reloading::new(files, move || self.config())
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some of what a system trusts may be broken; the rest will do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.ca {
            add_roots(path, &mut roots)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has what the default versions of TLS need")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| identity.does_not_fit(&error))?
            }
        };
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(config)
    }
}

/// Connects to the host and port of a URL; over TLS if there is a configuration for it, whatever the
/// URL's scheme.
pub fn connector(
    tls: Option<Arc<Reloading<ClientConfig>>>,
) -> impl Service<
    Uri,
    Response = TokioIo<Connection>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<Connection>>> + Send,
> + Clone
+ Send
+ 'static {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tower::service_fn(move |uri: Uri| {
        let (tcp, tls) = (tcp.clone(), tls.clone());
        async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let socket = tcp.oneshot(uri).await.map_err(io::Error::other)?.into_inner();
            let connection = match tls {
                None => Connection::Plain(socket),
                Some(tls) => {
                    let name = server_name(&host)?;
                    let stream = TlsConnector::from(tls.get()).connect(name, socket).await;
                    let stream = stream.map_err(|error| explain(Side::Client, error))?;
                    Connection::Tls(Box::new(stream.into()))
                }
            };
            Ok(TokioIo::new(connection))
        }
    })
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare)
        .map_err(|_| io::Error::other(format!("{host:?} is no name that a certificate can be for")))
}
