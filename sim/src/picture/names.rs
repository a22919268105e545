//! Workers by short names: their ids are twenty digits long.

use std::collections::BTreeMap;

use arroyo_node::ids::WorkerId;

use crate::fact::{Entry, Fact};

/// `w1`, `w2` and so on, in the order in which they were spawned.
pub(super) struct Names(BTreeMap<String, usize>);

impl Names {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut names = BTreeMap::new();
        for entry in entries {
            if let Fact::Spawns(launch) = &entry.fact {
                let next = names.len() + 1;
                names.entry(launch.worker.to_string()).or_insert(next);
            }
        }
        Self(names)
    }

    /// A worker's number, from 1.
    pub(super) fn number(&self, worker: WorkerId) -> usize {
        self.0.get(&worker.to_string()).copied().unwrap_or(0)
    }

    /// A text with the short names in it.
    pub(super) fn shorten(&self, text: &str) -> String {
        let mut short = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
            let (before, number) = (&rest[..at], &rest[at..at + digits]);
            rest = &rest[at + digits..];
            let Some(nth) = self.0.get(number) else {
                short.push_str(before);
                short.push_str(number);
                continue;
            };
            match before.strip_suffix("WorkerId(") {
                Some(before) if rest.starts_with(')') => {
                    rest = &rest[1..];
                    short.push_str(before);
                }
                _ => short.push_str(before),
            }
            short.push_str(&format!("w{nth}"));
        }
        short + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_short_and_other_numbers_stay() {
        let names = Names([("12345678901".to_owned(), 3)].into());
        assert_eq!(names.shorten("-> Started(Ok(WorkerId(12345678901)))"), "-> Started(Ok(w3))");
        assert_eq!(names.shorten("12345678901 runs, pid 300"), "w3 runs, pid 300");
        assert_eq!(names.shorten("WorkerId(7) in 1.5 s"), "WorkerId(7) in 1.5 s");
    }
}
