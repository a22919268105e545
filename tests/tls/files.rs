//! Files that make no sense at the start: each is named, with what is wrong with it.

use std::fs;

use crate::{Env, World, launch, tls};

async fn refuses_to_start(world: &World, env: &Env, words: &[&str]) {
    let mut agent = launch(&world.home, "http://127.0.0.1:1", env);
    assert_eq!(agent.end().await.code(), Some(1));
    let error = agent.line_with("error: ").await;
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let world = World::new();
    let mut files = world.ours.issue("agent");
    files.cert = world.home.scratch().join("nowhere.pem");
    let words = ["over TLS", "cert-file", "nowhere.pem", "No such file"];
    refuses_to_start(&world, &tls(&files, None), &words).await;
}

#[tokio::test]
async fn a_certificate_that_is_none_is_named() {
    let world = World::new();
    let files = world.ours.issue("agent");
    fs::write(&files.cert, "-----BEGIN GARBAGE-----\n-----END GARBAGE-----\n").unwrap();
    let words = ["cert-file", "agent.pem", "no certificate in PEM"];
    refuses_to_start(&world, &tls(&files, None), &words).await;
}

#[tokio::test]
async fn a_key_that_is_none_is_named() {
    let world = World::new();
    let files = world.ours.issue("agent");
    fs::copy(&files.cert, &files.key).unwrap();
    let words = ["key-file", "agent.key", "no private key in PEM"];
    refuses_to_start(&world, &tls(&files, None), &words).await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_told() {
    let world = World::new();
    let (files, other) = (world.ours.issue("agent"), world.ours.issue("other"));
    fs::copy(&other.key, &files.key).unwrap();
    let words = ["agent.pem", "agent.key", "the key is not the certificate's"];
    refuses_to_start(&world, &tls(&files, None), &words).await;
}

#[tokio::test]
async fn a_ca_that_is_none_is_named() {
    let world = World::new();
    let files = world.ours.issue("agent");
    let ca = world.home.scratch().join("empty.pem");
    fs::write(&ca, "").unwrap();
    let words = ["mtls-ca-file", "empty.pem", "no certificate in PEM"];
    refuses_to_start(&world, &tls(&files, Some(&ca)), &words).await;
}

#[tokio::test]
async fn tls_without_a_certificate_is_told_by_its_key() {
    let world = World::new();
    let env = vec![("ARROYO__NODE__TLS__ENABLED", "true".to_owned())];
    let words = ["node.tls.enabled is true", "node.tls.cert-file names no file"];
    refuses_to_start(&world, &env, &words).await;
}

#[tokio::test]
async fn a_controller_that_demands_certificates_of_a_node_that_has_none_is_told() {
    let world = World::new();
    let ca = world.ours.file.to_str().unwrap().to_owned();
    let env = vec![
        ("ARROYO__CONTROLLER__TLS__ENABLED", "true".to_owned()),
        ("ARROYO__CONTROLLER__TLS__MTLS_CA_FILE", ca),
    ];
    refuses_to_start(
        &world,
        &env,
        &["the controller demands certificates", "tls.enabled is false"],
    )
    .await;
}
