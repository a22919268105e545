//! A short campaign, the canary, and determinism, as everybody's `cargo test` runs them.

use std::process::{Command, Output};

fn simulator(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_arroyo-node-sim")).args(arguments).output();
    output.expect("the simulator was built with this test")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_short_campaign_keeps_every_promise() {
    let output = simulator(&["run", "--from", "1", "--seeds", "24"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("24 seeds, 0 failed"), "{}", text(&output));
}

#[test]
fn the_canary_fails_and_says_how_to_see_it_again() {
    let canary = arroyo_node_sim::plan::draw::CANARY.to_string();
    let output = simulator(&["run", "--from", &canary, "--seeds", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let text = text(&output);
    assert!(text.contains(&format!("SEED {canary} ")), "{text}");
    assert!(text.contains("broke: canary"), "{text}");
    assert!(text.contains(&format!("replay {canary}")), "{text}");
}

#[test]
fn a_seed_gives_the_same_trace_and_packets_in_another_process() {
    let output = simulator(&["check-determinism", "--from", "3", "--seeds", "2"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("2 seeds run twice"), "{}", text(&output));
}

#[test]
fn a_replay_can_be_drawn_as_a_page_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("run.html");
    let output = simulator(&["replay", "14", "--html", page.to_str().expect("a plain path")]);
    assert!(output.status.success(), "{}", text(&output));
    let page = std::fs::read_to_string(page).expect("it was drawn");
    assert!(page.contains("agent-1") && page.contains("class=\"worker\""), "no workers drawn");
}
