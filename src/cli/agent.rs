//! How commands talk to an agent: where it is, within which time, and what a failure means to the
//! person who typed the command.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use super::{Exit, Failure};
use crate::{
    admin::row::plain,
    rpc::{
        admin_wire::node_admin_client::NodeAdminClient, convert::root_cause,
        wire::node_grpc_client::NodeGrpcClient,
    },
    runtime::tls::{ClientTls, Identity, connector},
};

/// Which agent, and how to show its answer.
#[derive(clap::Args, Clone, Debug)]
pub struct Agent {
    /// The agent's address; with https:// before it, over TLS
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "ARROYO_NODE_ADDR",
        default_value = "127.0.0.1:5118"
    )]
    addr: String,
    /// Over TLS: a CA to trust, besides those that this system trusts (PEM)
    #[arg(long, value_name = "FILE", env = "ARROYO_NODE_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Over TLS: the certificate to show (PEM)
    #[arg(long, value_name = "FILE", env = "ARROYO_NODE_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "ARROYO_NODE_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Give up when the agent has not answered within this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print one JSON document instead of text (errors stay on stderr, as text)
    #[arg(long)]
    pub(super) json: bool,
}

impl Agent {
    /// Connects, then does `work`, all on this thread.
    pub(super) fn run(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)?;
        runtime.block_on(async { work(&self.connect().await?).await })
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let endpoint = Endpoint::from(self.uri()?);
        let tls = self.tls().map(ClientTls::load).transpose();
        let tls = tls.map_err(|error| Failure::new(Exit::Usage, error.to_string(), ""))?;
        let connector = connector(tls.map(Arc::new));
        match tokio::time::timeout(self.timeout, endpoint.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => {
                Ok(Connection { addr: self.addr.clone(), timeout: self.timeout, channel })
            }
            Ok(Err(error)) => Err(self.unreachable(&root_cause(&error))),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    fn uri(&self) -> Result<http::Uri, Failure> {
        let bare = self.addr.trim_start_matches("http://").trim_start_matches("https://");
        let scheme = if self.tls().is_some() { "https" } else { "http" };
        let bad = |problem: &str| {
            let message = format!("--addr {:?} is not an agent's address: {problem}", self.addr);
            Failure::new(Exit::Usage, message, "write HOST:PORT, IPv6 in brackets: [::1]:5118")
        };
        let uri: http::Uri = format!("{scheme}://{bare}/").parse().map_err(|error| {
            let error: http::uri::InvalidUri = error;
            bad(&error.to_string())
        })?;
        if uri.port().is_none() || uri.path() != "/" {
            return Err(bad("host and port, and nothing else, are needed"));
        }
        Ok(uri)
    }

    /// Whoever names a certificate means TLS, too.
    fn tls(&self) -> Option<ClientTls> {
        let identity = self.tls_cert.clone().zip(self.tls_key.clone());
        let identity = identity.map(|(cert_file, key_file)| Identity { cert_file, key_file });
        let wanted =
            self.addr.starts_with("https://") || self.tls_ca.is_some() || identity.is_some();
        wanted.then(|| ClientTls { ca: self.tls_ca.clone(), identity })
    }

    fn unreachable(&self, reason: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("no agent answers at {}: {reason}", self.addr),
            "is it running? --addr HOST:PORT or ARROYO_NODE_ADDR says where it is, https:// before \
             it that it wants TLS",
        )
    }
}

/// A connection to an agent.
#[derive(Debug)]
pub(super) struct Connection {
    addr: String,
    timeout: Duration,
    channel: Channel,
}

impl Connection {
    /// What a controller calls.
    pub(super) fn node(&self) -> NodeGrpcClient<Channel> {
        NodeGrpcClient::new(self.channel.clone())
    }

    /// What only people call.
    pub(super) fn admin(&self) -> NodeAdminClient<Channel> {
        NodeAdminClient::new(self.channel.clone())
    }

    /// Waits for a call's answer, with a deadline.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => {
                let timeout = humantime::format_duration(self.timeout);
                Err(Failure::new(
                    Exit::Unreachable,
                    format!("the agent at {} did not answer within {timeout}", self.addr),
                    "what was asked may have been done all the same; --timeout TIME waits longer",
                ))
            }
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        // A status that this side made up, since the connection broke, has a cause.
        if let Some(cause) = status.source() {
            return Failure::new(
                Exit::Unreachable,
                format!("lost the agent at {}: {}", self.addr, root_cause(cause)),
                "what was asked may have been done all the same",
            );
        }
        let message = plain(status.message());
        let (exit, hint) = match status.code() {
            Code::NotFound => (Exit::NotFound, ""),
            Code::ResourceExhausted => {
                (Exit::Refused, "`arroyo-node ps` shows which workers hold slots")
            }
            Code::FailedPrecondition | Code::Unavailable | Code::PermissionDenied => {
                (Exit::Refused, "")
            }
            Code::InvalidArgument => (Exit::Usage, ""),
            Code::Unimplemented => {
                let message = format!("the agent at {} does not know this request", self.addr);
                let hint =
                    "is it a stock Arroyo node? those know ps, start (with --machine) and stop";
                return Failure::new(Exit::Failed, message, hint);
            }
            _ => (Exit::Failed, "the agent's log may say more"),
        };
        let message = match message.as_ref() {
            "" => format!("the agent answered {:?} ({})", status.code(), status.code()),
            said => said.to_owned(),
        };
        Failure::new(exit, message, hint)
    }
}
