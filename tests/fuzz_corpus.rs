//! Replays the committed inputs of every fuzz target, with the target's own code.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public to the fuzz targets")]
mod targets;

use std::{fs, path::Path};

#[test]
fn config() {
    replay("config", targets::config::config);
}

#[test]
fn journal() {
    replay("journal", targets::journal::journal);
}

#[test]
fn machine() {
    replay("machine", targets::machine::machine);
}

#[test]
fn requests() {
    replay("requests", targets::requests::requests);
}

#[test]
fn shim_protocol() {
    replay("shim_protocol", targets::shim_protocol::shim_protocol);
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("a committed corpus") {
        let path = entry.expect("a readable corpus").path();
        // Shown if it fails.
        println!("{}", path.display());
        run(&fs::read(&path).expect("a readable input"));
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
