//! The limit on open descriptors: every live worker costs its supervisor one, and the usual soft
//! limit is 1,024.

use std::{io, sync::OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the limit was before: workers get that back.
static BEFORE: OnceLock<libc::rlimit> = OnceLock::new();

/// Raises this process's soft limit on open descriptors as far as it may, and returns what it is
/// then. Workers are started with the limit that this process had before.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    BEFORE.get_or_init(|| libc::rlimit { rlim_cur: soft, rlim_max: hard });
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The limit to start workers with, if it is not the one of this process.
pub(super) fn limit_before() -> Option<libc::rlimit> {
    BEFORE.get().copied()
}
