//! What is needed to run a worker's program.

use std::{ffi::CStr, sync::Arc};

/// A program ready to be run. Strings that all workers have are shared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecSpec {
    /// Where the program may be: the first that can be run is.
    pub candidates: Vec<Arc<CStr>>,
    /// The arguments, beginning with the program's name.
    pub argv: Vec<Arc<CStr>>,
    /// The environment, sorted by name, each as `NAME=value`.
    pub envp: Vec<Arc<CStr>>,
    /// The directory to change to before.
    pub cwd: Option<Arc<CStr>>,
    /// The files that its standard output and standard error are appended to.
    pub output: Option<OutputFiles>,
    /// The cgroup to run it in, which is made for it. `None`: the one of the supervisor.
    pub group: Option<Arc<CStr>>,
}

/// Where a worker's output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputFiles {
    /// The directory of both. Made anew if it is missing; its parent must be there.
    pub dir: Arc<CStr>,
    /// The file for standard output.
    pub stdout: Arc<CStr>,
    /// The file for standard error.
    pub stderr: Arc<CStr>,
}
