//! What the agent reads of Arroyo's own configuration: the keys of stock `arroyo node`, with
//! its names and its defaults. Whatever else is in there belongs to other services.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::values::{Endpoint, Secret};
use crate::runtime::node::{DEFAULT_CONTROLLER_PORT, DEFAULT_PORT};

/// Arroyo's `admin.http-port`.
pub const DEFAULT_ADMIN_PORT: u16 = 5114;

/// Where TLS can be described, of the sections that concern a node.
pub(super) const TLS_SECTIONS: [&str; 4] = ["tls", "node.tls", "controller.tls", "admin.tls"];

/// The part of Arroyo's configuration that concerns a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Stock {
    /// Where the controller is.
    pub controller_endpoint: Option<Endpoint>,
    /// The name of this machine, for others to call.
    pub hostname: Option<String>,
    /// Where a job is controlled from: `worker`, with 0.16 and later, means by one of its workers,
    /// which finds a controller again that has restarted.
    pub job_controller: Option<String>,
    /// The node's section.
    pub node: Node,
    /// What the node must know of the controller's section.
    pub controller: Controller,
    /// TLS of every service that has no `tls` of its own.
    pub tls: Tls,
    /// The admin server's section.
    pub admin: Admin,
    /// How to log.
    pub logging: Logging,
}

/// The section `node`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Node {
    /// The agent's stable name.
    pub id: Option<String>,
    /// Where to serve: an address or a host name.
    pub bind_address: String,
    /// The port to serve on; zero: any free one.
    pub rpc_port: u16,
    /// Units of capacity to offer.
    pub task_slots: u32,
    /// TLS of the node's API.
    pub tls: Option<Tls>,
}

/// The section `controller`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Controller {
    /// The controller's port, if there is no `controller-endpoint`.
    pub rpc_port: u16,
    /// TLS of the controller's API.
    pub tls: Option<Tls>,
}

/// A section `tls`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Tls {
    /// Whether there is TLS at all.
    pub enabled: bool,
    /// The certificate and those that lead from it to its CA, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
    /// The CA that the other side's certificate must be of, in PEM. If set, servers demand one.
    pub mtls_ca_file: Option<PathBuf>,
}

/// The section `admin`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Admin {
    /// Where to serve: an address or a host name.
    pub bind_address: String,
    /// The port to serve on; zero: any free one.
    pub http_port: u16,
    /// TLS of the admin server.
    pub tls: Option<Tls>,
    /// Who may ask it.
    pub auth_mode: AuthMode,
    /// Whether the metrics are for everybody, whatever `auth-mode` demands of a request.
    pub allow_unauthenticated_metrics: bool,
}

/// Who may ask the admin server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "type")]
pub enum AuthMode {
    /// Everybody.
    #[default]
    None,
    /// Who presents a certificate of the CA.
    Mtls {
        /// The CA, if `tls.mtls-ca-file` does not name it.
        #[serde(default)]
        ca_cert_file: Option<PathBuf>,
    },
    /// Who sends `Authorization: Bearer KEY`.
    StaticApiKey {
        /// The key.
        api_key: Secret,
    },
}

/// The section `logging`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Logging {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged if `RUST_LOG` does not say: a level.
    pub min_level: Option<String>,
    /// Write from a thread of its own.
    pub nonblocking: bool,
    /// Say in which line of its file an event is.
    pub enable_file_line: bool,
    /// Say in which source file an event is.
    pub enable_file_name: bool,
    /// With `nonblocking`: how many lines may wait.
    pub buffered_lines_limit: usize,
    /// What every line carries besides.
    pub static_fields: BTreeMap<String, String>,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Plaintext,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

const ANY: &str = "0.0.0.0";

impl Default for Node {
    fn default() -> Self {
        Self {
            id: None,
            bind_address: ANY.into(),
            rpc_port: DEFAULT_PORT,
            task_slots: 16,
            tls: None,
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Self { rpc_port: DEFAULT_CONTROLLER_PORT, tls: None }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            bind_address: ANY.into(),
            http_port: DEFAULT_ADMIN_PORT,
            tls: None,
            auth_mode: AuthMode::None,
            allow_unauthenticated_metrics: false,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            min_level: None,
            nonblocking: false,
            enable_file_line: false,
            enable_file_name: false,
            buffered_lines_limit: 4096,
            static_fields: BTreeMap::new(),
        }
    }
}

impl Stock {
    /// Whether workers are of use to a controller that has restarted.
    pub fn workers_outlive_controller(&self) -> bool {
        self.job_controller.as_deref() == Some("worker")
    }

    /// The controller's URL: what is configured, or else its default port on the host that
    /// `hostname` names, or on this machine.
    pub fn controller_url(&self) -> String {
        if let Some(Endpoint(url)) = &self.controller_endpoint {
            return url.clone();
        }
        let scheme = if self.controller_tls().is_some() { "https" } else { "http" };
        let host = bracketed(self.hostname.as_deref().unwrap_or("localhost"));
        format!("{scheme}://{host}:{}", self.controller.rpc_port)
    }

    /// TLS as the node serves, and as it shows itself to others.
    pub fn node_tls(&self) -> Option<&Tls> {
        self.effective(self.node.tls.as_ref())
    }

    /// TLS as the controller serves.
    pub fn controller_tls(&self) -> Option<&Tls> {
        self.effective(self.controller.tls.as_ref())
    }

    /// TLS as the admin server serves.
    pub fn admin_tls(&self) -> Option<&Tls> {
        self.effective(self.admin.tls.as_ref())
    }

    /// A service's own `tls` replaces the global one, as a whole.
    fn effective<'a>(&'a self, own: Option<&'a Tls>) -> Option<&'a Tls> {
        Some(own.unwrap_or(&self.tls)).filter(|tls| tls.enabled)
    }
}

/// An IPv6 address as URLs want it.
pub(super) fn bracketed(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}
