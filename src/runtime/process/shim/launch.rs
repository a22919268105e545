//! Starts a shim, and waits until it listens or has found that another one does.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::ffi::OsStrExt as _,
    path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::agent::ShimConfig;

/// To be called where waiting does no harm.
///
/// # Errors
/// Why there is none, with what it said.
pub(super) fn launch(config: &ShimConfig) -> Result<(), String> {
    let name = |error: io::Error| format!("{}: {error}", config.program.display());
    let output = memfd_create(c"arroyo-node-shim", MFdFlags::MFD_CLOEXEC);
    let mut output = File::from(output.map_err(|error| name(error.into()))?);
    let mut child =
        command(config, &output).and_then(|mut command| command.spawn()).map_err(name)?;
    let timeout = config.timeout;
    let status = wait(&mut child, timeout).map_err(name)?;
    let Some(status) = status else {
        return Err(format!("{}: it does not listen after {timeout:?}", config.program.display()));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut said)).map_err(name)?;
    Err(format!("{}: it ended with {status}: {}", config.program.display(), said.trim()))
}

/// `None`: it took too long, and was killed.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

fn command(config: &ShimConfig, output: &File) -> io::Result<Command> {
    let mut command = Command::new(&config.program);
    command.args(&config.args).arg("--state-dir").arg(path::absolute(&config.state_dir)?);
    if let Some(groups) = &config.groups {
        command.arg("--groups").arg(groups);
    }
    // The shim reads no configuration, and workers get their environment with each start: so it
    // need not keep the agent's secrets.
    let env = env::vars_os().filter(|(name, _)| !name.as_bytes().starts_with(b"ARROYO"));
    command.env_clear().envs(env);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    Ok(command)
}
