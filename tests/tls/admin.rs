//! The admin server over TLS, and who may ask it.

use std::sync::Arc;

use arroyo_node::runtime::tls::ClientTls;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    World, serving,
    support::{
        loopback, port_to_keep,
        program::{AgentProgram, get},
        soon,
    },
    tls,
};

async fn get_over_tls(agent: &AgentProgram, tls: ClientTls, path: &str) -> std::io::Result<String> {
    let mut config = (*tls.load().unwrap().get()).clone();
    config.alpn_protocols.clear();
    let socket = TcpStream::connect(agent.admin).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer).await {
        // The server need not take leave.
        Err(_) if !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}

fn nobody() -> String {
    format!("http://{}", loopback(port_to_keep()))
}

#[tokio::test]
async fn the_status_page_is_served_over_tls() {
    let world = World::new();
    let identity = world.ours.issue("agent");
    let agent = serving(&world.home, &nobody(), &tls(&identity, Some(&world.ours.file))).await;
    agent.program.line_with("scheme=\"https\"").await;
    // A CA for the cluster does not keep people from their page: auth-mode would.
    let answer = soon("the page", get_over_tls(&agent, world.ours.client(None), "/name")).await;
    assert!(answer.unwrap().ends_with("arroyo-node\n"));
}

#[tokio::test]
async fn with_auth_mode_mtls_a_certificate_is_demanded() {
    let world = World::new();
    let identity = world.ours.issue("agent");
    let mut env = tls(&identity, Some(&world.ours.file));
    env.push(("ARROYO__ADMIN__AUTH_MODE__TYPE", "mtls".into()));
    let agent = serving(&world.home, &nobody(), &env).await;
    let caller = world.ours.issue("caller");
    let good = get_over_tls(&agent, world.ours.client(Some(&caller)), "/status");
    assert!(soon("the status", good).await.unwrap().ends_with("ok"));
    let none = get_over_tls(&agent, world.ours.client(None), "/status");
    assert!(soon("the refusal", none).await.is_err());
    agent.program.line_with("the client presented no certificate").await;
}

#[tokio::test]
async fn with_an_api_key_every_route_demands_it() {
    let world = World::new();
    let env = vec![
        ("ARROYO__ADMIN__AUTH_MODE__TYPE", "static-api-key".to_owned()),
        ("ARROYO__ADMIN__AUTH_MODE__API_KEY", "sesame".to_owned()),
    ];
    let agent = serving(&world.home, &nobody(), &env).await;
    for path in ["/", "/status", "/metrics", "/config", "/healthz"] {
        let answer = soon("a refusal", get(agent.admin, path)).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(answer.contains("admin.auth-mode.api-key"), "{answer}");
    }
    for (key, status) in [("sesame", "200"), ("sesam", "401"), ("sesame2", "401"), ("", "401")] {
        let path = format!("/config HTTP/1.1\r\nAuthorization: Bearer {key}\r\nX-Rest:");
        let answer = soon("an answer", get(agent.admin, &path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{key:?}: {answer}");
        assert!(!answer.contains("sesame"), "the key is shown: {answer}");
    }
}

#[tokio::test]
async fn the_metrics_can_be_left_open() {
    let world = World::new();
    let env = vec![
        ("ARROYO__ADMIN__AUTH_MODE__TYPE", "static-api-key".to_owned()),
        ("ARROYO__ADMIN__AUTH_MODE__API_KEY", "sesame".to_owned()),
        ("ARROYO__ADMIN__ALLOW_UNAUTHENTICATED_METRICS", "true".to_owned()),
    ];
    let agent = serving(&world.home, &nobody(), &env).await;
    for (path, status) in [("/metrics", 200), ("/config", 401), ("/", 401)] {
        let answer = soon("an answer", get(agent.admin, path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

async fn does_not_start(env: &crate::Env, why: &str) {
    let world = World::new();
    let mut agent = crate::launch(&world.home, &nobody(), env);
    assert_eq!(agent.end().await.code(), Some(1));
    agent.line_with(why).await;
}

#[tokio::test]
async fn auth_mode_mtls_without_tls_is_an_error() {
    let env = vec![("ARROYO__ADMIN__AUTH_MODE__TYPE", "mtls".to_owned())];
    does_not_start(&env, "admin.auth-mode.type is mtls, and tls.enabled is false").await;
}

#[tokio::test]
async fn an_empty_key_is_an_error() {
    let env = vec![
        ("ARROYO__ADMIN__AUTH_MODE__TYPE", "static-api-key".to_owned()),
        ("ARROYO__ADMIN__AUTH_MODE__API_KEY", "\"\"".to_owned()),
    ];
    does_not_start(&env, "admin.auth-mode.api-key is empty").await;
}
