//! What TLS errors mean to the person who has to set it right.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError as Bad, Error, InvalidMessage};

/// On which side of a connection this process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// It called.
    Client,
    /// It was called.
    Server,
}

/// The same error, in words for a person if it is one of TLS.
pub(super) fn explain(side: Side, error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match cause.and_then(|cause| words(side, cause)) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

fn words(side: Side, error: &Error) -> Option<String> {
    let (other, trust) = match side {
        Side::Client => ("the server", "of a CA that this system trusts or mtls-ca-file names"),
        Side::Server => ("the client", "of the CA that mtls-ca-file names"),
    };
    Some(match error {
        Error::InvalidCertificate(problem) => {
            let problem = match problem {
                Bad::UnknownIssuer | Bad::BadSignature => format!("is not {trust}"),
                Bad::Expired | Bad::ExpiredContext { .. } => "has expired".into(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "is not valid yet: compare the clocks".into()
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    format!("is for another host: {problem}")
                }
                Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
                    format!("is not for this use: {problem}")
                }
                other => format!("cannot be accepted: {other}"),
            };
            format!("{other}'s certificate {problem}")
        }
        Error::NoCertificatesPresented => {
            format!("{other} presented no certificate, and mtls-ca-file demands one")
        }
        Error::AlertReceived(Alert::CertificateRequired) => {
            format!("{other} demands a certificate, and this side is configured with none")
        }
        Error::AlertReceived(Alert::UnknownCA) => {
            format!("{other} does not trust the CA of this side's certificate")
        }
        Error::AlertReceived(Alert::CertificateExpired) => {
            format!("{other} refused this side's certificate: it has expired")
        }
        Error::AlertReceived(alert @ (Alert::BadCertificate | Alert::CertificateUnknown)) => {
            format!("{other} refused this side's certificate ({alert:?})")
        }
        Error::AlertReceived(Alert::DecryptError) => {
            format!("{other} refused this side's certificate: its signature is not of the CA there")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{other} does not speak TLS")
        }
        _ => return None,
    })
}
