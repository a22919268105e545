//! `planted`: do the oracles see anything? Bugs are planted one at a time (`sim/planted/*.patch`)
//! in a copy of the source, which is built and run until an oracle fires.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::campaign::Summary;

/// What is built for each bug is built quickly; what it runs on is optimised once.
const QUICK: [&str; 3] = [
    "profile.sim.incremental = true",
    "profile.sim.package.arroyo-node.opt-level = 0",
    "profile.sim.package.arroyo-node-sim.opt-level = 0",
];

/// Which bugs, and how long to look for each.
#[derive(Debug, Args)]
pub(super) struct Planted {
    /// Only these, by the names of their patches.
    names: Vec<String>,
    /// How many seeds may pass before a bug counts as not found.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The source.
    #[arg(long, default_value = ".")]
    source: PathBuf,
    /// Where it is copied to and built.
    #[arg(long, default_value = "target/planted")]
    target: PathBuf,
}

impl Planted {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let patches = self.patches()?;
        let mut unseen = 0;
        for patch in &patches {
            let name = name_of(patch);
            let found = self.hunt(patch).with_context(|| format!("with {name} planted"))?;
            match found.failures.first_key_value() {
                Some((seed, promise)) => {
                    println!(
                        "{name:<36} seen after {:>3} seeds, in {seed}: {promise}",
                        found.seeds
                    );
                }
                None => {
                    unseen += 1;
                    println!("{name:<36} NOT SEEN in {} seeds", found.seeds);
                }
            }
        }
        println!("{} bugs planted, {unseen} not seen", patches.len());
        Ok(if unseen == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn patches(&self) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.source.join("sim/planted");
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} is not the source", self.source.display()))?;
        let mut patches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
        patches.sort();
        for name in &self.names {
            ensure!(patches.iter().any(|patch| name_of(patch) == *name), "no patch {name:?}");
        }
        patches.retain(|patch| self.names.is_empty() || self.names.contains(&name_of(patch)));
        Ok(patches)
    }

    fn hunt(&self, patch: &Path) -> anyhow::Result<Summary> {
        let copy = self.target.join("source");
        sync(&self.source, &copy)?;
        let target = fs::canonicalize(&self.target)?;
        must(
            Command::new("git")
                .arg("apply")
                .arg(fs::canonicalize(patch)?)
                .current_dir(&copy)
                // In a folder of a repository, git would take the patch to be of other files, and
                // be content to do nothing.
                .env("GIT_CEILING_DIRECTORIES", &target),
        )?;
        must(
            Command::new("cargo")
                .args(["build", "--quiet", "--package", "arroyo-node-sim", "--profile", "sim"])
                .args(QUICK.iter().flat_map(|setting| ["--config", setting]))
                .arg("--target-dir")
                .arg(&target)
                .current_dir(&copy),
        )?;
        let summary = target.join("summary.json");
        Command::new(target.join("sim/arroyo-node-sim"))
            .args(["run", "--seeds", &self.seeds.to_string(), "--json"])
            .arg(&summary)
            .output()
            .context("cannot run the build")?;
        Ok(serde_json::from_slice(&fs::read(summary)?)?)
    }
}

fn name_of(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Makes `to` hold what `from` holds, without touching what is the same: the build looks at times.
fn sync(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let target = to.join(&name);
        if path.is_dir() {
            if name != "target" && name != ".git" {
                sync(&path, &target)?;
            }
        } else {
            let content = fs::read(&path)?;
            if fs::read(&target).ok().as_ref() != Some(&content) {
                fs::write(&target, content)?;
            }
        }
    }
    Ok(())
}
