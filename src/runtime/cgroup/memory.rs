//! The files `memory.*`, which a group has only where its parent passes the controller on.

use std::path::Path;

use super::{
    core::{read_small, value_of},
    error::{Error, Result},
};

const EVENTS: &str = "memory.events";

/// How many processes of the group and below it were killed for want of memory, by whichever limit
/// or because the computer had no more. `None`: no memory controller, or no such group.
///
/// Not `memory.events.local`: that leaves out the groups that the worker made below its own, and
/// counts die with those. The mount option `memory_localevents` makes both the same.
pub(super) fn oom_kills(group: &Path) -> Result<Option<u64>> {
    let path = group.join(EVENTS);
    let mut buffer = [0; 1024];
    match read_small(&path, &mut buffer) {
        Ok(text) => match value_of(text, "oom_kill") {
            Some(count) => Ok(Some(count)),
            None => Err(Error::form(&path, text)),
        },
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn oom_kill_is_not_oom_group_kill() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(oom_kills(dir.path()).unwrap(), None, "no controller");
        let text = "low 0\nhigh 0\nmax 31\noom 4\noom_kill 3\noom_group_kill 1\n\
                    sock_throttled 0\n";
        fs::write(dir.path().join(EVENTS), text).unwrap();
        assert_eq!(oom_kills(dir.path()).unwrap(), Some(3));
        fs::write(dir.path().join(EVENTS), "oom_group_kill 1\n").unwrap();
        assert!(oom_kills(dir.path()).is_err());
    }
}
