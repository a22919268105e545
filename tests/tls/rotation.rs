//! Certificates that are replaced while the agent runs.

use std::fs;

use crate::{
    World, ask, serving,
    support::{controller::Recorder, loopback, port_to_keep},
    tls,
};

/// Asks until the answer is as wanted.
macro_rules! until {
    ($what:expr, $ask:expr, $wanted:pat) => {
        crate::support::soon($what, async {
            while !matches!($ask.await, $wanted) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    };
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let world = World::new();
    let nobody = format!("https://{}", loopback(port_to_keep()));
    let identity = world.ours.issue("agent");
    let agent = serving(&world.home, &nobody, &tls(&identity, None)).await;
    assert_eq!(ask(&agent, Some(world.ours.client(None))).await, Ok(()));
    assert!(ask(&agent, Some(world.strange.client(None))).await.is_err());

    world.strange.issue("renewed").replace(&identity);
    assert_eq!(ask(&agent, Some(world.strange.client(None))).await, Ok(()));
    assert!(ask(&agent, Some(world.ours.client(None))).await.is_err());
    agent.program.line_with("certificates read again").await;
}

#[tokio::test]
async fn another_ca_for_callers_holds_without_a_restart() {
    let world = World::new();
    let nobody = format!("https://{}", loopback(port_to_keep()));
    let identity = world.ours.issue("agent");
    let ca = world.home.scratch().join("callers.pem");
    fs::copy(&world.ours.file, &ca).unwrap();
    let agent = serving(&world.home, &nobody, &tls(&identity, Some(&ca))).await;
    let (known, stranger) = (world.ours.issue("known"), world.strange.issue("stranger"));
    assert_eq!(ask(&agent, Some(world.ours.client(Some(&known)))).await, Ok(()));
    assert!(ask(&agent, Some(world.ours.client(Some(&stranger)))).await.is_err());

    fs::copy(&world.strange.file, &ca).unwrap();
    assert_eq!(ask(&agent, Some(world.ours.client(Some(&stranger)))).await, Ok(()));
    assert!(ask(&agent, Some(world.ours.client(Some(&known)))).await.is_err());
}

#[tokio::test]
async fn files_that_make_no_sense_leave_what_was_read_before_in_use() {
    let world = World::new();
    let nobody = format!("https://{}", loopback(port_to_keep()));
    let identity = world.ours.issue("agent");
    let agent = serving(&world.home, &nobody, &tls(&identity, None)).await;
    fs::write(&identity.cert, "half a certifi").unwrap();
    assert_eq!(ask(&agent, Some(world.ours.client(None))).await, Ok(()));
    let line = agent.program.line_with("stay in use").await;
    assert!(line.contains(identity.cert.to_str().unwrap()), "{line}");
    assert!(line.contains("no certificate in PEM"), "{line}");

    world.strange.issue("renewed").replace(&identity);
    until!("the good ones", ask(&agent, Some(world.strange.client(None))), Ok(()));
}

#[tokio::test]
async fn a_renewed_certificate_opens_the_way_to_the_controller() {
    let world = World::new();
    let (identity, controller) = (world.strange.issue("agent"), world.ours.issue("controller"));
    let server = controller.server(Some(&world.ours));
    let recorder = Recorder::start_over(loopback(0), Some(server)).await;
    let env = tls(&identity, Some(&world.ours.file));
    let agent = serving(&world.home, &recorder.url(), &env).await;
    agent.program.line_with("does not trust the CA of this side's").await;

    world.ours.issue("renewed").replace(&identity);
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
    agent.program.line_with("controller reached again").await;
}

#[tokio::test]
async fn a_controller_of_a_new_ca_is_reached_once_its_file_is_there() {
    let world = World::new();
    let (identity, controller) = (world.ours.issue("agent"), world.strange.issue("controller"));
    let recorder = Recorder::start_over(loopback(0), Some(controller.server(None))).await;
    let ca = world.home.scratch().join("controllers.pem");
    fs::copy(&world.ours.file, &ca).unwrap();
    let agent = serving(&world.home, &recorder.url(), &tls(&identity, Some(&ca))).await;
    agent.program.line_with("is not of a CA that this system trusts").await;

    fs::copy(&world.strange.file, &ca).unwrap();
    recorder.until("the node", |record| !record.registrations.is_empty()).await;
}
