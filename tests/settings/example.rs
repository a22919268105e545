//! `arroyo-node.example.toml` has every setting, and each default in it is the code's.

use std::{collections::BTreeMap, fs};

use arroyo_node::config::own::Own;
use figment::{
    Figment,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};

use crate::Place;

const EXAMPLE: &str = "arroyo-node.example.toml";

fn leaves(prefix: &str, dict: &Dict, into: &mut BTreeMap<String, Value>) {
    for (key, value) in dict {
        match value.as_dict() {
            Some(section) => leaves(&format!("{prefix}{key}."), section, into),
            None => drop(into.insert(format!("{prefix}{key}"), value.clone())),
        }
    }
}

fn settings(figment: &Figment) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    leaves("", &figment.extract().unwrap(), &mut all);
    all
}

#[test]
fn the_example_has_every_setting_with_its_default() {
    let example = settings(&Figment::from(Toml::file_exact(EXAMPLE)));
    let code = settings(&Figment::from(Serialized::defaults(Own::default())));
    let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&example), names(&code));
    let read: Own = Figment::from(Toml::file_exact(EXAMPLE)).extract().unwrap();
    assert_eq!(read, Own::default());
}

#[test]
fn every_setting_of_the_example_is_explained() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    let mut explained = false;
    for line in text.lines() {
        match line {
            "" => explained = false,
            line if line.starts_with('#') => explained = true,
            line if line.starts_with('[') => {}
            line => assert!(explained, "{line} has no comment in its paragraph"),
        }
    }
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let place = Place::new();
    fs::copy(EXAMPLE, place.path("home/work/arroyo-node.toml")).unwrap();
    let shown = place.shown(&[], &[], &[]);
    assert_eq!(shown.from("retention.workers", "arroyo-node.toml"), "1000");
}
