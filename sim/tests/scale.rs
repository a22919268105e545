//! Many nodes, in small: every bound holds, the same settings give the same results, and a bug
//! breaks a bound.

use std::{collections::BTreeSet, process::Command, time::Duration};

use arroyo_node_sim::scale::{Kind, Outcome, Planted, Results, Settings, run};

fn settings(nodes: usize) -> Settings {
    Settings {
        outages: [0.2, 4.0, 10.0].map(Duration::from_secs_f64).to_vec(),
        ..Settings::new(nodes, 2)
    }
}

fn outcome<'a>(results: &'a Results, name: &str) -> &'a Outcome {
    let found = results.outcomes.iter().find(|outcome| outcome.name == name);
    found.unwrap_or_else(|| panic!("no scenario {name:?}"))
}

fn broken(results: &Results) -> BTreeSet<String> {
    results
        .broken()
        .map(|(outcome, bound)| format!("{}: {}: {}", outcome.name, bound.what, bound.found))
        .collect()
}

#[test]
fn every_bound_holds_in_every_scenario() {
    let results = run(&settings(500), |_| {});
    assert_eq!(broken(&results), BTreeSet::new());

    let restart = outcome(&results, "restart, 4 s down");
    assert_eq!(restart.calls[&Kind::Register].total, 500, "each node registers once");
    assert_eq!((restart.ends, restart.delivered), (1_000, 1_000), "every job is run anew");
    assert!(restart.calls[&Kind::Connect].total > 1_000, "nodes try while it is down");

    let partition = outcome(&results, "partition");
    assert_eq!(partition.calls[&Kind::Register].total, 167, "a third registers anew");
    assert_eq!((partition.ends, partition.delivered), (100, 100));

    let upgrade = outcome(&results, "rolling upgrade");
    assert_eq!(upgrade.calls[&Kind::Register].total, 500);
    assert_eq!((upgrade.ends, upgrade.delivered), (100, 100));

    let stop = outcome(&results, "mass stop");
    assert_eq!((stop.ends, stop.delivered, stop.resent), (800, 800, 0));
}

#[test]
fn the_same_settings_give_the_same_results() {
    let small = Settings { outages: vec![Duration::from_secs(2)], ..settings(60) };
    let first = run(&small, |_| {});
    assert!(first == run(&small, |_| {}), "the same settings gave other results");
    let other = run(&Settings { seed: 2, ..small }, |_| {});
    assert!(first.rates != other.rates, "another seed gave the same");
}

#[test]
fn backoff_without_jitter_breaks_the_bound_on_registrations() {
    let results = run(&Settings { planted: Some(Planted::InStep), ..settings(200) }, |_| {});
    let broken = broken(&results);
    for name in ["restart, 4 s down", "restart, 10 s down"] {
        let found = broken.iter().any(|bound| bound.starts_with(&format!("{name}: at most 120")));
        assert!(found, "{name}: the herd was not noticed: {broken:?}");
    }
}

#[test]
fn agents_that_lose_their_rows_are_noticed() {
    let results = run(&Settings { planted: Some(Planted::LosesRows), ..settings(60) }, |_| {});
    let broken = broken(&results);
    let upgrade = |bound: &&String| bound.starts_with("rolling upgrade: ");
    assert!(
        broken.iter().filter(upgrade).any(|bound| bound.contains("the books agree")),
        "{broken:?}"
    );
    assert!(broken.iter().filter(upgrade).any(|bound| bound.contains("every end")), "{broken:?}");
}

#[test]
fn a_controller_that_is_too_slow_for_all_reports_at_once_gets_them_all_in_the_end() {
    // More than six seconds of work arrive at once; after four their callers give up, and repeat.
    let slow = Settings { service: Duration::from_millis(8), outages: Vec::new(), ..settings(500) };
    let results = run(&slow, |_| {});
    let stop = outcome(&results, "mass stop");
    assert!(stop.longest_queue_ms > 3_000 && stop.resent > 0, "there was no queue: {stop:?}");
    let told = stop.bounds.iter().find(|bound| bound.what.contains("every end is reported"));
    assert!(told.is_some_and(|bound| bound.holds), "{stop:?}");
}

#[test]
fn the_command_prints_tables_draws_a_picture_and_tells_by_its_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let (picture, figures) = (directory.path().join("s.svg"), directory.path().join("s.json"));
    let scale = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_arroyo-node-sim"))
            .args(["scale", "--nodes", "200", "--slots", "1", "--outages", "10s"])
            .args(more)
            .arg("--svg")
            .arg(&picture)
            .arg("--json")
            .arg(&figures)
            .output()
            .expect("the simulator was built with this test")
    };
    let output = scale(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("restart, 10 s down") && text.contains("every bound holds"), "{text}");
    let drawn = std::fs::read_to_string(&picture).expect("it was drawn");
    for needed in ["<svg xmlns=", "simulated time in seconds", "registrations", "partition"] {
        assert!(drawn.contains(needed), "the picture lacks {needed:?}");
    }
    let written = std::fs::read_to_string(&figures).expect("it was written");
    let written: serde_json::Value = serde_json::from_str(&written).expect("it is JSON");
    assert_eq!(written["outcomes"][1]["calls"]["register"]["total"], 200);
    assert!(written["cost"]["peak_rss"].as_u64() > Some(1 << 20));

    let output = scale(&["--planted", "in-step"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("BROKEN at most 120 registrations"), "{text}");
}
