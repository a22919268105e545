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
fn every_named_scenario_keeps_every_promise() {
    let output = simulator(&["scenarios"]);
    assert!(output.status.success(), "{}", text(&output));
    let lines = text(&output).lines().filter(|line| line.ends_with("was kept")).count();
    assert_eq!(lines, arroyo_node_sim::scenarios::ALL.len(), "{}", text(&output));
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
    assert!(page.contains("agent-1") && page.contains("<title>w1: "), "no workers drawn");
}

#[test]
fn a_failure_shrinks_to_the_deeds_that_it_needs_and_is_replayed_from_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = directory.path().join("plan.json");
    let plan = plan.to_str().expect("a plain path");
    let canary = arroyo_node_sim::plan::draw::CANARY.to_string();
    let output = simulator(&["shrink", &canary, "--out", plan]);
    assert!(output.status.success(), "{}", text(&output));
    // The canary needs none.
    assert!(text(&output).contains("0 deeds"), "{}", text(&output));
    let output = simulator(&["replay", &canary, "--plan", plan]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("canary"), "{}", text(&output));
}

#[test]
fn a_plan_is_the_same_each_time_and_survives_being_written_down() {
    for seed in 0..200 {
        let plan = arroyo_node_sim::plan::Plan::draw(seed);
        assert_eq!(plan, arroyo_node_sim::plan::Plan::draw(seed));
        let text = serde_json::to_string(&plan).expect("plain data");
        let read: arroyo_node_sim::plan::Plan = serde_json::from_str(&text).expect("as written");
        assert_eq!(read, plan);
    }
}

/// The bugs that `planted` plants follow the source: whoever changes a line that one of them is about
/// hears of it here, and not when somebody plants them the next time.
#[test]
fn every_bug_can_still_be_planted() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let patches = std::fs::read_dir(format!("{root}/sim/planted")).expect("planted bugs");
    let mut tried = 0;
    for patch in patches {
        let patch = patch.expect("a readable folder").path();
        let check = ["apply", "--check"];
        let git = Command::new("git").args(check).arg(&patch).current_dir(root).output();
        let Ok(output) = git else {
            println!("left out: there is no git, which plants the bugs");
            return;
        };
        assert!(output.status.success(), "{}: {}", patch.display(), text(&output));
        tried += 1;
    }
    assert!(tried >= 12, "only {tried} planted bugs");
}
