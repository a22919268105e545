//! Sets a file aside under a name with a timestamp: what the agent cannot use, it never deletes.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use prost_types::Timestamp;

use super::{clock::SystemClock, ports::Clock as _};
use crate::machine::Wall;

/// Renames whatever is at `path`, be it a file or a directory, and returns its new name:
/// `<path>.<UTC timestamp>`.
pub(crate) fn set_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = free_name(path, now);
    fs::rename(path, &aside)?;
    sync_parent(path);
    Ok(aside)
}

/// Makes room where something stands that is of another kind than is needed there, and returns its
/// new name. `None`: there is nothing, or what is there will do.
pub(crate) fn make_room(
    path: &Path,
    will_do: impl FnOnce(&Metadata) -> bool,
) -> io::Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(found) if will_do(&found) => Ok(None),
        Err(_) if !exists(path) => Ok(None),
        _ => set_aside(path, SystemClock.now().wall).map(Some),
    }
}

/// A name for what is set aside that nothing has yet: `<path>.<UTC timestamp>`, and further
/// `.1`, `.2`, … within the same second.
pub(crate) fn free_name(path: &Path, now: Wall) -> PathBuf {
    let dated = append(path, &format!(".{}", compact_utc(now)));
    let numbered = (1_u32..).map(|n| append(&dated, &format!(".{n}")));
    std::iter::once(dated.clone()).chain(numbered).find(|name| !exists(name)).unwrap_or(dated)
}

/// The path with this text at the end of its last component.
pub(crate) fn append(path: &Path, text: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(text);
    PathBuf::from(name)
}

/// Whether anything at all has this name, a dangling link included.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Makes the names in the path's directory durable, if the file system can do that.
pub(crate) fn sync_parent(path: &Path) {
    let _ = path.parent().map(|directory| File::open(directory).and_then(|open| open.sync_all()));
}

/// `20251124T085400Z`: without colons, which `scp` and `rsync` read as the end of a host name.
fn compact_utc(time: Wall) -> String {
    let seconds = i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: 0 }.to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_763_974_440_123_456);

    #[test]
    fn nothing_that_was_set_aside_before_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let names: Vec<_> = ["first", "second", "third"]
            .map(|text| {
                fs::write(&path, text).unwrap();
                set_aside(&path, NOW).unwrap()
            })
            .into();

        assert_eq!(
            names,
            ["file.20251124T085400Z", "file.20251124T085400Z.1", "file.20251124T085400Z.2"]
                .map(|name| dir.path().join(name))
        );
        assert_eq!(fs::read_to_string(&names[0]).unwrap(), "first");
        assert!(!exists(&path));
    }

    #[test]
    fn room_is_made_for_what_is_needed_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(make_room(&path, Metadata::is_file).unwrap(), None);
        fs::write(&path, "text").unwrap();
        assert_eq!(make_room(&path, Metadata::is_file).unwrap(), None);

        let aside = make_room(&path, Metadata::is_dir).unwrap().unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), "text");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(make_room(&path, Metadata::is_file).unwrap().is_some());
        assert!(!exists(&path));
    }

    #[test]
    fn every_reading_of_the_clock_makes_a_name() {
        for micros in [0, 1, i64::MAX as u64, u64::MAX] {
            assert!(compact_utc(Wall(micros)).ends_with('Z'));
        }
    }
}
