//! The settings, as an operator meets them: real files, the real environment of the binary, its
//! words.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod example;
mod precedence;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A home directory, and a working directory in it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// What `arroyo-node config` showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) notes: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.path("home/.config/arroyo")).unwrap();
        fs::create_dir_all(place.path("home/work/conf.d")).unwrap();
        place
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> &Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    /// Runs `arroyo-node … config …` in `home/work`, with these variables and no others.
    pub(crate) fn run(&self, before: &[&str], flags: &[&str], env: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_arroyo-node"))
            .args(before)
            .arg("config")
            .args(flags)
            .env_clear()
            .env("HOME", self.path("home"))
            .envs(env.iter().copied())
            .current_dir(self.path("home/work"))
            .output()
            .unwrap()
    }

    pub(crate) fn shown(&self, before: &[&str], flags: &[&str], env: &[(&str, &str)]) -> Shown {
        let output = self.run(before, flags, env);
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{notes}");
        Shown { text: String::from_utf8(output.stdout).unwrap(), notes }
    }

    /// The one line of an error, with exit code 1.
    pub(crate) fn error(&self, before: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(before, &[], env);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }
}

impl Shown {
    /// The value of a setting, and where it comes from.
    pub(crate) fn of(&self, key: &str) -> (&str, &str) {
        let start = format!("{key} = ");
        let line = self.text.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {}", self.text));
        let (value, source) = line.rsplit_once("  # ").unwrap();
        (value.trim_end(), source)
    }

    /// The value, if its source is this.
    pub(crate) fn from(&self, key: &str, expected: impl AsRef<Path>) -> &str {
        let (value, source) = self.of(key);
        let expected = expected.as_ref();
        let same = Path::new(source) == expected || Path::new(source).ends_with(expected);
        assert!(same, "{key} comes from {source}, and not from {}", expected.display());
        value
    }
}
