//! The promises of an agent, on sequences of events that proptest makes up: the machine and the
//! reference model must agree on every reply and every other effect, and what they agree on must
//! be true of the world around them. The model, the world and what can happen in it are in
//! `model/`.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test machine_properties` looks longer. What fails
//! is shrunk, kept in `proptest-regressions/machine.txt`, and tried first from then on.

mod strategies;

use std::{cell::Cell, fs};

use arroyo_node_model::{run, scenario::Action, trace};
use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, FileFailurePersistence, TestRunner},
};
use strategies::scenarios;

const REGRESSIONS: &str = "proptest-regressions/machine.txt";

fn cases(default: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = default;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS)));
    if std::env::var_os("PROPTEST_MAX_SHRINK_ITERS").is_none() {
        config.max_shrink_iters = 20_000;
    }
    config
}

proptest! {
    #![proptest_config(cases(1_200))]

    /// P1 to P13 as far as a machine alone can break them, and its own invariants.
    #[test]
    fn promises_hold_whatever_happens(scenario in scenarios()) {
        run(&scenario).map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// P14: the same inputs give the same effects.
    #[test]
    fn the_same_inputs_give_the_same_effects(scenario in scenarios()) {
        let first = trace(&scenario).map_err(TestCaseError::fail)?;
        prop_assert_eq!(first, trace(&scenario).map_err(TestCaseError::fail)?);
    }

    /// P13: what the wall clock does shows in reports, and nowhere else.
    #[test]
    fn wall_clock_jumps_change_nothing_but_times(mut scenario in scenarios()) {
        let jumping = trace(&scenario).map_err(TestCaseError::fail)?.without_wall_times();
        scenario.steps.iter_mut().for_each(|step| {
            if let Action::JumpWall(seconds) = &mut step.action {
                *seconds = 0;
            }
        });
        let steady = trace(&scenario).map_err(TestCaseError::fail)?.without_wall_times();
        prop_assert_eq!(jumping, steady);
    }
}

#[test]
fn what_has_failed_is_kept_and_tried_first() {
    let kept = fs::read_to_string(REGRESSIONS).expect("failures of the past");
    assert!(kept.contains("\ncc "), "{kept}");

    let folder = tempfile::tempdir().expect("a folder");
    let file: &'static str = folder.path().join("kept.txt").display().to_string().leak();
    let tried_until_it_fails = || {
        let persistence = Box::new(FileFailurePersistence::Direct(file));
        let config = ProptestConfig {
            max_shrink_iters: 0,
            failure_persistence: Some(persistence),
            ..cases(999)
        };
        let tried = Cell::new(0);
        let result = TestRunner::new(config).run(&scenarios(), |scenario| {
            tried.set(tried.get() + 1);
            let rare = |action: &Action| matches!(action, Action::Drain(true));
            prop_assert!(!scenario.steps.iter().any(|step| rare(&step.action)));
            Ok(())
        });
        result.expect_err("a failure");
        tried.get()
    };
    tried_until_it_fails();
    assert!(fs::read_to_string(file).expect("it was written").contains("\ncc "));
    assert_eq!(tried_until_it_fails(), 1);
}
