//! How an agent calls its controller over TLS, according to its copy of the controller's settings.

use crate::{
    Env, World,
    certificates::Files,
    launch, serving,
    support::{calls::Calls, controller::Recorder, loopback},
    tls,
};

fn over_tls(recorder: &Recorder) -> String {
    // Stock calls by TLS according to the settings, whatever the URL says.
    recorder.url()
}

#[tokio::test]
async fn over_mtls_node_and_controller_work_together() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue("agent"), world.ours.issue("controller"));
    let server = controller.server(Some(&world.ours));
    let recorder = Recorder::start_over(loopback(0), Some(server)).await;
    let env = tls(&agent, Some(&world.ours.file));
    let agent = serving(&world.home, &over_tls(&recorder), &env).await;
    let record = recorder.until("the node", |record| !record.registrations.is_empty()).await;
    assert_eq!(record.registrations[0].addr, agent.address.to_string());

    let calls = Calls::over_tls(agent.address, world.ours.client(Some(&controller)));
    let worker = calls.start(world.home.request("job", 2, &[("WORKER_EXIT_AFTER", "0s:0")])).await;
    assert_eq!(recorder.report_of(worker).await.slots, 2);
}

#[tokio::test]
async fn the_controllers_own_tls_section_replaces_the_global_one() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue("agent"), world.ours.issue("controller"));
    let server = controller.server(None);
    let recorder = Recorder::start_over(loopback(0), Some(server)).await;
    let mut env = tls(&agent, None);
    env.retain(|(name, _)| *name != "ARROYO__TLS__ENABLED");
    env.push(("ARROYO__TLS__ENABLED", "false".into()));
    env.push(("ARROYO__CONTROLLER__TLS__ENABLED", "true".into()));
    // Instead of what the system trusts, as far as this process is concerned.
    env.push(("SSL_CERT_FILE", world.ours.file.to_str().unwrap().into()));
    let agent = serving(&world.home, &over_tls(&recorder), &env).await;
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
    assert_eq!(crate::ask(&agent, None).await, Ok(()), "the node's API is without TLS");
}

/// Stock refuses such a URL; it can mean only one thing.
#[tokio::test]
async fn a_url_can_ask_for_tls_by_itself() {
    let world = World::new();
    let server = world.ours.issue("controller").server(None);
    let recorder = Recorder::start_over(loopback(0), Some(server)).await;
    let env = vec![("SSL_CERT_FILE", world.ours.file.to_str().unwrap().to_owned())];
    let _agent = serving(&world.home, &format!("https://{}", recorder.address), &env).await;
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
}

/// The agent does not get through to this controller, and says why.
async fn fails(world: &World, env: &Env, server: Option<&Files>, why: &str) {
    let server = server.map(|files| files.server(Some(&world.ours)));
    let recorder = Recorder::start_over(loopback(0), server).await;
    let agent = launch(&world.home, &over_tls(&recorder), env);
    let line = agent.line("why", |line| line.contains("WARN") && line.contains(why)).await;
    assert!(line.contains("controller"), "{line}");
    assert!(recorder.record().registrations.is_empty());
}

#[tokio::test]
async fn a_controller_of_another_ca_is_not_told_anything() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue("agent"), world.strange.issue("controller"));
    let env = tls(&agent, Some(&world.ours.file));
    let why =
        "the server's certificate is not of a CA that this system trusts or mtls-ca-file names";
    fails(&world, &env, Some(&controller), why).await;
}

#[tokio::test]
async fn a_controller_with_an_expired_certificate_is_not_told_anything() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue("agent"), world.ours.issue_expired("controller"));
    let env = tls(&agent, Some(&world.ours.file));
    fails(&world, &env, Some(&controller), "the server's certificate has expired").await;
}

#[tokio::test]
async fn a_controller_with_another_hosts_certificate_is_not_told_anything() {
    let world = World::new();
    let agent = world.ours.issue("agent");
    let controller = world.ours.issue_for("controller", &["elsewhere.example"], |_| {});
    let env = tls(&agent, Some(&world.ours.file));
    fails(&world, &env, Some(&controller), "the server's certificate is for another host").await;
}

#[tokio::test]
async fn a_controller_that_refuses_the_nodes_certificate_is_understood() {
    let world = World::new();
    let (agent, controller) = (world.strange.issue("agent"), world.ours.issue("controller"));
    let env = tls(&agent, Some(&world.ours.file));
    let why = "the server does not trust the CA of this side's certificate";
    fails(&world, &env, Some(&controller), why).await;
}

#[tokio::test]
async fn an_agent_whose_certificate_has_expired_is_told_so() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue_expired("agent"), world.ours.issue("controller"));
    let env = tls(&agent, Some(&world.ours.file));
    let why = "the server refused this side's certificate: it has expired";
    fails(&world, &env, Some(&controller), why).await;
}

#[tokio::test]
async fn an_agent_that_shows_no_certificate_where_one_is_demanded_is_told_so() {
    let world = World::new();
    let (agent, controller) = (world.ours.issue("agent"), world.ours.issue("controller"));
    let mut env = tls(&agent, None);
    env.push(("SSL_CERT_FILE", world.ours.file.to_str().unwrap().into()));
    let why = "the server demands a certificate, and this side is configured with none";
    fails(&world, &env, Some(&controller), why).await;
}

#[tokio::test]
async fn a_controller_without_tls_is_not_talked_to_without_tls() {
    let world = World::new();
    let agent = world.ours.issue("agent");
    let env = tls(&agent, Some(&world.ours.file));
    fails(&world, &env, None, "the server does not speak TLS").await;
}
