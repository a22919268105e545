//! Who may call an agent over TLS, and what those hear who may not.

use crate::{
    World, ask, serving,
    support::{controller::Recorder, loopback, port_to_keep, program::AgentProgram},
    tls,
};

fn nobody() -> String {
    format!("https://{}", loopback(port_to_keep()))
}

async fn demanding(world: &World) -> AgentProgram {
    let agent = world.ours.issue("agent");
    serving(&world.home, &nobody(), &tls(&agent, Some(&world.ours.file))).await
}

#[tokio::test]
async fn with_a_certificate_of_the_ca_an_agent_can_be_called() {
    let world = World::new();
    let agent = demanding(&world).await;
    let caller = world.ours.issue("caller");
    assert_eq!(ask(&agent, Some(world.ours.client(Some(&caller)))).await, Ok(()));
}

#[tokio::test]
async fn without_mtls_a_caller_needs_no_certificate() {
    let world = World::new();
    let identity = world.ours.issue("agent");
    let mut env = tls(&identity, None);
    // The agent's own way to the controller is not of interest here.
    env.push(("ARROYO__CONTROLLER__TLS__ENABLED", "false".into()));
    let recorder = Recorder::start().await;
    let agent = serving(&world.home, &recorder.url(), &env).await;
    assert_eq!(ask(&agent, Some(world.ours.client(None))).await, Ok(()));
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
}

/// The caller is told why, and so is the agent's operator.
async fn is_refused(
    world: &World,
    caller: Option<arroyo_node::runtime::tls::ClientTls>,
    caller_hears: &str,
    log_says: &str,
) {
    let agent = demanding(world).await;
    let error = ask(&agent, caller).await.unwrap_err();
    assert!(error.contains(caller_hears), "{error}");
    let line = agent.program.line_with("refused a connection from 127.0.0.1:").await;
    assert!(line.contains(log_says), "{line}");
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let world = World::new();
    let caller = world.ours.client(None);
    let hears = "the server demands a certificate, and this side is configured with none";
    let says = "the client presented no certificate, and mtls-ca-file demands one";
    is_refused(&world, Some(caller), hears, says).await;
}

#[tokio::test]
async fn a_caller_with_a_certificate_of_another_ca_is_refused() {
    let world = World::new();
    let stranger = world.strange.issue("stranger");
    let caller = world.ours.client(Some(&stranger));
    let hears = "the server does not trust the CA of this side's certificate";
    let says = "the client's certificate is not of the CA that mtls-ca-file names";
    is_refused(&world, Some(caller), hears, says).await;
}

#[tokio::test]
async fn a_caller_with_an_expired_certificate_is_refused() {
    let world = World::new();
    let late = world.ours.issue_expired("late");
    let caller = world.ours.client(Some(&late));
    let hears = "refused this side's certificate: it has expired";
    is_refused(&world, Some(caller), hears, "the client's certificate has expired").await;
}

#[tokio::test]
async fn a_caller_without_tls_is_refused() {
    let world = World::new();
    is_refused(&world, None, "", "the client does not speak TLS").await;
}

#[tokio::test]
async fn a_caller_who_says_nothing_holds_up_nobody() {
    let world = World::new();
    let agent = demanding(&world).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tokio::net::TcpStream::connect(agent.address).await.unwrap());
    }
    let caller = world.ours.issue("caller");
    assert_eq!(ask(&agent, Some(world.ours.client(Some(&caller)))).await, Ok(()));
    agent.program.line_with("no TLS handshake within 10s").await;
}

/// As a whole: nothing of the global section is left in it.
#[tokio::test]
async fn the_nodes_own_tls_section_replaces_the_global_one() {
    let world = World::new();
    let (global, own) = (world.strange.issue("global"), world.ours.issue("own"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut env = tls(&global, Some(&world.strange.file));
    env.push(("ARROYO__CONTROLLER__TLS__ENABLED", "false".into()));
    env.push(("ARROYO__NODE__TLS__ENABLED", "true".into()));
    env.push(("ARROYO__NODE__TLS__CERT_FILE", text(&own.cert)));
    env.push(("ARROYO__NODE__TLS__KEY_FILE", text(&own.key)));
    let recorder = Recorder::start().await;
    let agent = serving(&world.home, &recorder.url(), &env).await;
    assert_eq!(ask(&agent, Some(world.ours.client(None))).await, Ok(()));
    drop(agent);

    env.retain(|(name, _)| !name.starts_with("ARROYO__NODE__TLS"));
    env.push(("ARROYO__NODE__TLS__ENABLED", "false".into()));
    let agent = serving(&world.home, &recorder.url(), &env).await;
    assert_eq!(ask(&agent, None).await, Ok(()));
}
