//! The reference controller and an agent, each a program with certificates of its own, over mTLS
//! both ways.

use nix::sys::signal::Signal;

use crate::{
    Env, World,
    certificates::Files,
    launch, serving,
    support::{loopback, port_to_keep, processes::MARK, program::Program},
    tls,
};

/// A controller on this port that runs one job.
fn controller(world: &World, address: &str, env: &Env) -> Program {
    let mark = format!("{MARK}={}", world.home.mark.value());
    let arguments = ["controller", "--bind", address, "--job", "orders=2", "--env", &mark];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Program::run(&world.home.mark, &arguments, &env)
}

fn mtls(world: &World, identity: &Files) -> Env {
    tls(identity, Some(&world.ours.file))
}

#[tokio::test]
async fn a_job_runs_over_mtls_both_ways() {
    let world = World::new();
    let (agent, own) = (world.ours.issue("agent"), world.ours.issue("controller"));
    let address = loopback(port_to_keep()).to_string();
    let mut controller = controller(&world, &address, &mtls(&world, &own));
    controller.line_with("controller serves").await;
    let agent = serving(&world.home, &format!("https://{address}"), &mtls(&world, &agent)).await;
    agent.program.line_with("worker started").await;
    controller.signal(Signal::SIGTERM);
    assert!(controller.end().await.success());
    assert!(world.home.mark.workers().is_empty());
}

/// The agent trusts it as a controller, and not as a caller.
#[tokio::test]
async fn a_controller_of_a_strange_ca_starts_nothing() {
    let world = World::new();
    let (agent, strange) = (world.ours.issue("agent"), world.strange.issue("controller"));
    let address = loopback(port_to_keep()).to_string();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut env = mtls(&world, &strange);
    env.extend([
        ("ARROYO__CONTROLLER__TLS__ENABLED", "true".to_owned()),
        ("ARROYO__CONTROLLER__TLS__CERT_FILE", text(&strange.cert)),
        ("ARROYO__CONTROLLER__TLS__KEY_FILE", text(&strange.key)),
    ]);
    let controller = controller(&world, &address, &env);
    controller.line_with("controller serves").await;

    let mut env = mtls(&world, &agent);
    env.push(("ARROYO__CONTROLLER__TLS__ENABLED", "true".to_owned()));
    env.push(("SSL_CERT_FILE", text(&world.strange.file)));
    let agent = launch(&world.home, &format!("https://{address}"), &env);
    let refused = agent.line_with("refused a connection from 127.0.0.1:").await;
    assert!(refused.contains("is not of the CA that mtls-ca-file names"), "{refused}");
    let heard = controller.line_with("a worker could not be started").await;
    assert!(heard.contains("does not trust the CA of this side's certificate"), "{heard}");
    assert!(world.home.mark.workers().is_empty());
}

#[tokio::test]
async fn a_controller_without_the_certificate_that_nodes_demand_is_told_at_its_start() {
    let world = World::new();
    let ca = world.ours.file.to_str().unwrap().to_owned();
    let env = vec![
        ("ARROYO__NODE__TLS__ENABLED", "true".to_owned()),
        ("ARROYO__NODE__TLS__MTLS_CA_FILE", ca),
    ];
    let mut controller = controller(&world, "127.0.0.1:0", &env);
    assert_eq!(controller.end().await.code(), Some(1));
    let error = controller.line_with("error: ").await;
    assert!(error.contains("the node demands certificates"), "{error}");
    assert!(error.contains("set tls.cert-file and tls.key-file"), "{error}");
}
