//! Whether the worker program that was named can be run at all.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::bail;
use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};

/// Looks for the program where a start of a worker would.
///
/// # Errors
/// It cannot be run: which program, and why.
pub(super) fn check(program: &Path) -> anyhow::Result<()> {
    let named = program.display();
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return match why_not(program) {
            None => Ok(()),
            Some(why) => bail!("cannot run the worker program {named}: {why}"),
        };
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = |folder: PathBuf| why_not(&folder.join(program)).is_none();
    if !env::split_paths(&folders).any(found) {
        bail!("cannot run the worker program {named}: no directory of PATH has it");
    }
    Ok(())
}

/// Why this file cannot be run; `None`: it can.
fn why_not(path: &Path) -> Option<&'static str> {
    if path.is_dir() {
        return Some("it is a directory");
    }
    access(path, AccessFlags::X_OK).err().map(Errno::desc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str) -> String {
        check(Path::new(program)).expect_err("it cannot be run").to_string()
    }

    #[test]
    fn what_can_be_run_is_let_through() {
        check(Path::new("/bin/sh")).unwrap();
        check(Path::new("sh")).unwrap();
    }

    #[test]
    fn what_cannot_is_named_with_the_reason() {
        let cannot = "cannot run the worker program";
        assert_eq!(said("/no/such"), format!("{cannot} /no/such: No such file or directory"));
        assert_eq!(said("/etc/passwd"), format!("{cannot} /etc/passwd: Permission denied"));
        assert_eq!(said("/etc"), format!("{cannot} /etc: it is a directory"));
        assert_eq!(said("no-such"), format!("{cannot} no-such: no directory of PATH has it"));
    }
}
