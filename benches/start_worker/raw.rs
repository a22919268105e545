//! posix_spawn of the same program, in a session of its own, with the same number of variables, and
//! nothing around it.

use std::{
    env,
    ffi::{CString, c_char},
    io,
    mem::MaybeUninit,
    ptr,
    time::{Duration, Instant},
};

/// As the C library's header has it.
const POSIX_SPAWN_SETSID: libc::c_short = 0x80;

pub(crate) struct Raw {
    environment: Vec<CString>,
    attributes: libc::posix_spawnattr_t,
    children: Vec<libc::pid_t>,
}

impl Raw {
    pub(crate) fn new() -> anyhow::Result<Self> {
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
        Ok(Self { environment, attributes, children: Vec::new() })
    }

    /// How long it takes.
    pub(crate) fn spawn(&mut self) -> io::Result<Duration> {
        let end = ptr::null_mut::<c_char>();
        let argv = [c"sleep".as_ptr().cast_mut(), c"300".as_ptr().cast_mut(), end];
        let envp = self.environment.iter().map(|variable| variable.as_ptr().cast_mut());
        let envp: Vec<_> = envp.chain([end]).collect();
        let mut pid = 0;
        let began = Instant::now();
        // SAFETY: path, argv and envp are null-terminated and outlive the call, as do the
        // attributes; the null pointer asks for no file actions.
        let error = unsafe {
            libc::posix_spawnp(
                &raw mut pid,
                c"sleep".as_ptr(),
                ptr::null(),
                &raw const self.attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        let took = began.elapsed();
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        self.children.push(pid);
        Ok(took)
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
