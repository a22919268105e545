//! Certificates as an operator would have them: PEM files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use arroyo_node::runtime::tls::{ClientTls, Identity, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) file: PathBuf,
    dir: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = dir.join(format!("ca-{name}.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file, dir: dir.to_owned() }
    }

    /// A certificate for 127.0.0.1 and localhost.
    pub(crate) fn issue(&self, name: &str) -> Files {
        self.issue_for(name, &["127.0.0.1", "localhost"], |_| {})
    }

    pub(crate) fn issue_expired(&self, name: &str) -> Files {
        self.issue_for(name, &["127.0.0.1", "localhost"], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    pub(crate) fn issue_for(
        &self,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = Files {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&files.cert, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts this CA, and shows a certificate if it has one.
    pub(crate) fn client(&self, identity: Option<&Files>) -> ClientTls {
        ClientTls { ca: Some(self.file.clone()), identity: identity.map(Files::identity) }
    }
}

impl Files {
    pub(crate) fn identity(&self) -> Identity {
        Identity { cert_file: self.cert.clone(), key_file: self.key.clone() }
    }

    /// A server with this certificate, that demands one of this CA.
    pub(crate) fn server(&self, client_ca: Option<&Authority>) -> ServerTls {
        ServerTls {
            identity: self.identity(),
            client_ca: client_ca.map(|authority| authority.file.clone()),
        }
    }

    /// Takes the place of these others, as a renewal does.
    pub(crate) fn replace(&self, others: &Files) {
        fs::rename(&self.cert, &others.cert).unwrap();
        fs::rename(&self.key, &others.key).unwrap();
    }
}
