//! Starting a run in a process of its own, and hearing what came of it.

use std::{
    env,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::one::{One, Told, scratch};

/// How long a run may take, in real time: a run that hangs is a failure, too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it, and waits.
///
/// # Errors
/// The process died, hung, or did not say what came of it: the text says which, with the command
/// that repeats it.
pub(super) fn run(one: &One) -> anyhow::Result<Told> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command.arg("one").arg(one.seed.to_string());
    if let Some(plan) = &one.plan {
        command.arg("--plan").arg(plan);
    }
    if let Some(scenario) = &one.scenario {
        command.arg("--scenario").arg(scenario);
    }
    if one.no_jumps {
        command.arg("--no-jumps");
    }
    if one.wire {
        command.arg("--wire");
    }
    // Kept here, so that it is removed though the run be killed.
    let files = scratch()?;
    command.arg("--files").arg(files.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start a run")?;
    let errors = drain(child.stderr.take());
    let output = drain(child.stdout.take());
    let status = wait(&mut child).with_context(|| format!("seed {} hangs", one.seed))?;
    let (output, errors) = (joined(output), joined(errors));
    match serde_json::from_str(output.lines().last().unwrap_or_default()) {
        Ok(told) => Ok(told),
        Err(_) => bail!("seed {}: the run ended with {status}:\n{errors}", one.seed),
    }
}

fn wait(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {PATIENCE:?} of real time");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

type Reader = thread::JoinHandle<String>;

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> Reader {
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is.
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn joined(reader: Reader) -> String {
    reader.join().unwrap_or_default()
}
