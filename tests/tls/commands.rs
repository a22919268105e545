//! The people's commands against an agent that wants TLS.

use crate::{
    World, serving,
    support::{loopback, port_to_keep, program::Program},
    tls,
};

#[tokio::test]
async fn commands_talk_tls_with_a_certificate_and_say_what_is_missing_without() {
    let world = World::new();
    let nobody = format!("http://{}", loopback(port_to_keep()));
    let identity = world.ours.issue("agent");
    let agent = serving(&world.home, &nobody, &tls(&identity, Some(&world.ours.file))).await;
    let person = world.ours.issue("person");
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (text(&world.ours.file), text(&person.cert), text(&person.key));
    let address = format!("https://{}", agent.address);
    let run = async |arguments: &[&str]| {
        let all: Vec<_> = ["status", "--addr", &address].iter().chain(arguments).copied().collect();
        let mut program = Program::run(&world.home.mark, &all, &[]);
        let code = program.end().await.code();
        (code, program)
    };

    let (code, program) = run(&["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key]).await;
    program.line_with(&world.home.machine).await;
    assert_eq!(code, Some(0));
    let (code, program) = run(&["--tls-ca", &ca]).await;
    program.line_with("the server demands a certificate").await;
    assert_eq!(code, Some(3));
    let (code, program) = run(&[]).await;
    program.line_with("is not of a CA that this system trusts").await;
    assert_eq!(code, Some(3));
    let (code, program) = run(&["--tls-ca", "/nowhere.pem"]).await;
    program.line_with("cannot read the mtls-ca-file file /nowhere.pem").await;
    assert_eq!(code, Some(2));
    let (code, _) = run(&["--tls-cert", &cert]).await;
    assert_eq!(code, Some(2));
}
