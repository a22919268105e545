//! Certificates and keys in PEM files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use thiserror::Error;

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The certificate, first in its file, and those that lead from it to its CA.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read the {what} file {}: {error}", path.display())]
    Read {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is nothing of that kind in it, or something broken.
    #[error("the {what} file {} holds {problem}", path.display())]
    Content {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What it holds instead.
        problem: String,
    },
    /// Each file is well, and they do not belong together.
    #[error(
        "the certificate in {} and the key in {} cannot be used: {problem}",
        cert.display(), key.display()
    )]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Nobody could be trusted.
    #[error("this system has no root certificates, and mtls-ca-file names none")]
    NoRoots,
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { what, path: path.to_owned(), error })
}

/// All certificates of a file; at least one.
pub(super) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let bad = |problem| TlsError::Content { what, path: path.to_owned(), problem };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(bad("no certificate in PEM (-----BEGIN CERTIFICATE-----)".into()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(bad(format!("something that is no PEM: {error}"))),
    }
}

/// The private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read("key-file", path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Content {
        what: "key-file",
        path: path.to_owned(),
        problem: match error {
            pem::Error::NoItemsFound => {
                "no private key in PEM (-----BEGIN PRIVATE KEY-----), or an encrypted one".into()
            }
            other => format!("something that is no PEM: {other}"),
        },
    })
}

/// The CA certificates of a file, to trust.
pub(super) fn add_roots(path: &Path, roots: &mut RootCertStore) -> Result<(), TlsError> {
    let what = "mtls-ca-file";
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|error| TlsError::Content {
            what,
            path: path.to_owned(),
            problem: format!("a certificate that cannot be a CA's: {error}"),
        })?;
    }
    Ok(())
}

impl Identity {
    pub(super) fn files(&self) -> [PathBuf; 2] {
        [self.cert_file.clone(), self.key_file.clone()]
    }

    /// Certificates and key.
    pub(super) fn load(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        Ok((certificates("cert-file", &self.cert_file)?, key(&self.key_file)?))
    }

    pub(super) fn does_not_fit(&self, error: &rustls::Error) -> TlsError {
        TlsError::Pair {
            cert: self.cert_file.clone(),
            key: self.key_file.clone(),
            problem: match error {
                rustls::Error::InconsistentKeys(_) => "the key is not the certificate's".into(),
                other => other.to_string(),
            },
        }
    }
}
