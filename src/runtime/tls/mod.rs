//! TLS and mTLS, on both sides, with certificates that may be replaced while the agent runs.
//!
//! ```text
//!  files (PEM) ─▶ Reloading<ServerConfig> ─▶ Incoming   accepted connections, TLS done
//!              ─▶ Reloading<ClientConfig> ─▶ connector  connections to a server, TLS done
//! ```
//!
//! Each new connection asks [`Reloading`] for the configuration; that reads the files again when
//! they have changed. Open connections keep what they were made with. Files that make no sense are
//! an error at the start; later they are a warning, and what was read before stays in use.
//!
//! The cryptography is ring's: it needs a C compiler and nothing else to build.

mod client;
mod connection;
mod explain;
mod files;
mod incoming;
mod reload;
mod server;

pub use client::{ClientTls, connector};
pub use connection::Connection;
pub use files::{Identity, TlsError};
pub use incoming::Incoming;
pub use reload::Reloading;
pub use server::ServerTls;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// What HTTP/2 is called in a handshake; gRPC is nothing without it.
pub const H2: &[u8] = b"h2";
/// What HTTP/1.1 is called in a handshake.
pub const HTTP_1_1: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
