//! posix_spawn of the same program, in a session of its own, with the same number of variables; with the
//! files that a worker is given, or with nothing around it.

use std::{
    env,
    ffi::{CString, OsStr, c_char, c_int},
    io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt as _,
    ptr,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// As the C library's header has it.
const POSIX_SPAWN_SETSID: libc::c_short = 0x80;

pub(crate) struct Raw {
    environment: Vec<CString>,
    attributes: libc::posix_spawnattr_t,
    /// Where output goes; `None`: to where ours does.
    output: Option<TempDir>,
    children: Vec<libc::pid_t>,
}

impl Raw {
    /// That does nothing else.
    pub(crate) fn bare() -> anyhow::Result<Self> {
        Self::new(None)
    }

    /// That gives each child two new files for its output, and nothing to read.
    pub(crate) fn with_files() -> anyhow::Result<Self> {
        Self::new(Some(tempfile::tempdir()?))
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.output.is_some() { "raw posix_spawn, with files" } else { "raw posix_spawn" }
    }

    fn new(output: Option<TempDir>) -> anyhow::Result<Self> {
        let environment = env::vars()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<Result<_, _>>()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the first call initialises what the second changes.
        let attributes = unsafe {
            libc::posix_spawnattr_init(attributes.as_mut_ptr());
            libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), POSIX_SPAWN_SETSID);
            attributes.assume_init()
        };
        Ok(Self { environment, attributes, output, children: Vec::new() })
    }

    /// How long it takes.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<Duration> {
        let end = ptr::null_mut::<c_char>();
        let argv = [c"sleep".as_ptr().cast_mut(), c"300".as_ptr().cast_mut(), end];
        let envp = self.environment.iter().map(|variable| variable.as_ptr().cast_mut());
        let envp: Vec<_> = envp.chain([end]).collect();
        let files = self.files()?;
        let actions = files.as_ref().map_or(ptr::null(), |files| &raw const files.actions);
        let mut pid = 0;
        let began = Instant::now();
        // SAFETY: path, argv and envp are null-terminated and outlive the call, as do the
        // attributes and actions; a null pointer asks for no file actions.
        let error = unsafe {
            libc::posix_spawnp(
                &raw mut pid,
                c"sleep".as_ptr(),
                actions,
                &raw const self.attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        let took = began.elapsed();
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error).into());
        }
        self.children.push(pid);
        Ok(took)
    }

    fn files(&self) -> anyhow::Result<Option<Files>> {
        let Some(output) = &self.output else { return Ok(None) };
        let number = self.children.len();
        let path = |name: &OsStr| CString::new(output.path().join(name).as_os_str().as_bytes());
        let [out, err] = ["out", "err"].map(|stream| path(format!("{number}.{stream}").as_ref()));
        Ok(Some(Files::new(vec![c"/dev/null".into(), out?, err?])))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        for &child in &self.children {
            // SAFETY: the child is ours and not yet waited for, so the pid is still its.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, ptr::null_mut(), 0);
            }
        }
    }
}

/// What is opened as 0, 1 and 2.
struct Files {
    actions: libc::posix_spawn_file_actions_t,
    _paths: Vec<CString>,
}

impl Files {
    fn new(paths: Vec<CString>) -> Self {
        const APPEND: c_int = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the first call initialises what the others change; the paths are C strings.
        let actions = unsafe {
            libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
            for (to, path) in (0..).zip(&paths) {
                let flags = if to == 0 { libc::O_RDONLY } else { APPEND };
                let (actions, path) = (actions.as_mut_ptr(), path.as_ptr());
                libc::posix_spawn_file_actions_addopen(actions, to, path, flags, 0o640);
            }
            actions.assume_init()
        };
        Self { actions, _paths: paths }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // SAFETY: it is initialised, and nobody uses it any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.actions) };
    }
}
