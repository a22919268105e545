//! A program whose file has been replaced can still start itself, which is how an agent starts a
//! shim while it is being upgraded.

use std::{env, fs, process::Command};

use super::*;
use crate::runtime::process::shim::ShimConfig;

/// Set in the process that plays the replaced program.
const ROLE: &str = "PLAYS_THE_REPLACED_PROGRAM";

#[test]
fn this_program_can_be_started_after_its_file_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("program");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    let part = "runtime::process::tests::replaced::plays_the_replaced_program";
    command.args(["--exact", part]).env(ROLE, "yes");
    let mut output = None;
    eventually("no other test's child still has the copy open for writing", || {
        output = command.output().ok();
        output.is_some()
    });
    let replaced = output.unwrap();
    let said = String::from_utf8_lossy(&replaced.stdout);
    assert!(replaced.status.success(), "{said}");
    assert!(said.contains("1 passed"), "it did play its part: {said}");
    assert!(!copy.exists());
}

/// Does nothing unless it is run by the test above.
#[test]
fn plays_the_replaced_program() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    fs::remove_file(env::current_exe().unwrap()).unwrap();
    let mut program = Command::new(ShimConfig::THIS_PROGRAM);
    let output = program.arg("--list").output();
    let output = output.expect("the link leads to the file that is run, not to its path");
    assert!(output.status.success());
}
