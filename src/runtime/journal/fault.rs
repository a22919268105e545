//! Why a journal cannot be used, sorted by what is to be done about it.

use rusqlite::{Error, ErrorCode, ffi};
use thiserror::Error as ThisError;

/// Why a journal file cannot be used.
#[derive(Debug, ThisError)]
pub(super) enum Fault {
    /// What it holds is no journal of this version: another takes its place.
    #[error("{0}")]
    Unusable(String),
    /// It cannot be got at in the normal way, and waiting will not change that: perhaps it can
    /// still be read, then another takes its place.
    #[error("{0}")]
    Inaccessible(String),
    /// Something around it fails, and may stop failing: perhaps it can still be read, and later
    /// written.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error() {
            None => Self::Unusable(reason),
            Some(&ffi::Error { code, extended_code }) => match code {
                // `Unknown` is what a missing table or column comes as.
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => {
                    Self::Unusable(reason)
                }
                ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => {
                    Self::Inaccessible(reason)
                }
                ErrorCode::SystemIoFailure if is_failed_read(extended_code) => {
                    Self::Inaccessible(reason)
                }
                _ => Self::Unavailable(reason),
            },
        }
    }
}

/// A block that cannot be read stays unreadable; other failures of the disk may pass.
fn is_failed_read(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
    )
}
