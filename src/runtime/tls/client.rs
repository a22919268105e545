//! TLS as a client wants it, and the connector that uses it.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, client::ResolvesClientCert,
    pki_types::ServerName, sign::CertifiedKey,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
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
                Some(tls) => secure(socket, &host, tls.get())
                    .await
                    .map_err(|error| explain(Side::Client, error))?,
            };
            Ok(TokioIo::new(connection))
        }
    })
}

/// With TLS 1.3 a client has finished its handshake before the server has looked at its certificate.
/// A server that does not like it says so in place of its first words; those of an HTTP/2 server
/// come unasked. So a client that was asked for its certificate waits for them: the refusal is then
/// the reason why there is no connection, and not lost in one that breaks.
const FIRST_WORDS: Duration = Duration::from_millis(500);

async fn secure(
    socket: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> io::Result<Connection> {
    let (config, was_asked) = noting_whether_asked(&config);
    let name = server_name(host)?;
    let mut stream = TlsConnector::from(config).connect(name, socket).await?;
    let mut ahead = BytesMut::new();
    if was_asked.load(Ordering::Relaxed)
        && let Ok(read) = timeout(FIRST_WORDS, stream.read_buf(&mut ahead)).await
        && read? == 0
    {
        return Err(io::Error::other("the server hung up after the TLS handshake"));
    }
    Ok(Connection::secured(stream, ahead.freeze()))
}

fn noting_whether_asked(config: &ClientConfig) -> (Arc<ClientConfig>, Arc<AtomicBool>) {
    let asked = Arc::new(AtomicBool::new(false));
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(Noting {
        asked: asked.clone(),
        resolver: config.client_auth_cert_resolver.clone(),
    });
    (Arc::new(config), asked)
}

/// Finds the certificate to show, and notes that it was wanted.
#[derive(Debug)]
struct Noting {
    asked: Arc<AtomicBool>,
    resolver: Arc<dyn ResolvesClientCert>,
}

impl ResolvesClientCert for Noting {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.resolver.resolve(hints, schemes)
    }

    /// Only then is [`Self::resolve`] called at all.
    fn has_certs(&self) -> bool {
        true
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare)
        .map_err(|_| io::Error::other(format!("{host:?} is no name that a certificate can be for")))
}
