//! From a [`Launch`] to what `execve` takes: the program, its arguments, its environment.
//!
//! ```text
//!  environment, later wins:
//!    this process's own, but for ARROYO_NODE__*   (settings of the agent, which a stock worker
//!                                                  need not understand)
//!    the variables of the StartWorker
//!    RUST_LOG=info  ARROYO__WORKER__ID  ARROYO__WORKER__TASK_SLOTS  ARROYO__ADMIN__HTTP_PORT=0
//!    JOB_ID  RUN_ID  GENERATION  [PIPELINE_ID]
//! ```
//!
//! Nothing here touches the system but [`Inherited::capture`]; the same input gives the same
//! bytes in the same order.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::procfs::WORKER_ID_VARIABLE;
use crate::machine::{Launch, SpawnError};

const OWN_PREFIX: &[u8] = b"ARROYO_NODE__";

/// What to run as a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerCommand {
    /// The program. Without a slash it is looked for on `PATH`; a relative path starts at the
    /// directory in which the agent was started.
    pub program: PathBuf,
    /// Its arguments, after the program's name.
    pub args: Vec<OsString>,
    /// The directory to run it in; `None`: the one in which the agent was started.
    pub cwd: Option<PathBuf>,
}

impl WorkerCommand {
    /// This program with the one argument `worker`, as stock Arroyo is run.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec!["worker".into()], cwd: None }
    }

    /// Everything that `execve` needs to run this for that worker.
    pub fn image(&self, launch: &Launch, inherited: &Inherited) -> Result<Image, CommandError> {
        let own_name = self.program.as_os_str().as_bytes().to_vec();
        let args = self.args.iter().map(|arg| arg.as_bytes().to_vec());
        let cwd = match &self.cwd {
            Some(cwd) => Some(inherited.absolute(cwd)),
            None => inherited.cwd.clone(),
        };
        Ok(Image {
            candidates: self.candidates(inherited)?,
            argv: [own_name].into_iter().chain(args).map(c_string).collect::<Result<_, _>>()?,
            envp: environment(launch, inherited)?,
            cwd: cwd.map(|path| c_string(path.into_os_string().into_vec())).transpose()?,
        })
    }

    /// What to tell of a launch that failed.
    pub(super) fn spawn_error(&self, reason: &str) -> SpawnError {
        let program = self.program.to_string_lossy().as_ref().into();
        SpawnError { program, reason: reason.into() }
    }

    /// The paths at which the program may be, in the order of `execvp`.
    fn candidates(&self, inherited: &Inherited) -> Result<Vec<CString>, CommandError> {
        let bytes = self.program.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(CommandError::NoProgram);
        }
        let paths = if bytes.contains(&b'/') {
            vec![inherited.absolute(&self.program)]
        } else {
            let search = inherited.get(b"PATH").unwrap_or(b"/bin:/usr/bin");
            let search = OsString::from_vec(search.to_vec());
            env::split_paths(&search)
                .map(|dir| inherited.absolute(&dir.join(&self.program)))
                .collect()
        };
        paths.into_iter().map(|path| c_string(path.into_os_string().into_vec())).collect()
    }
}

/// What workers inherit of the process that starts them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inherited {
    /// Its environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory; `None`: unknown, since it has been deleted.
    pub cwd: Option<PathBuf>,
}

impl Inherited {
    /// Reads them of this process.
    pub fn capture() -> Self {
        Self { env: env::vars_os().collect(), cwd: env::current_dir().ok() }
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        match &self.cwd {
            Some(cwd) => cwd.join(path),
            None => path.to_owned(),
        }
    }

    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let value = self.env.get(std::ffi::OsStr::from_bytes(name))?;
        Some(value.as_bytes())
    }
}

/// A program ready to be run: what `execve` takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Where the program may be: the first that can be run is.
    pub candidates: Vec<CString>,
    /// The arguments, beginning with the program's name.
    pub argv: Vec<CString>,
    /// The environment, sorted, each as `NAME=value`.
    pub envp: Vec<CString>,
    /// The directory to change to before.
    pub cwd: Option<CString>,
}

/// Why a launch cannot be put in the form that `execve` takes. Values are not shown: they may be
/// secret.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// The configured program is the empty string.
    #[error("no worker program is configured; set worker.command")]
    NoProgram,
    /// An argument, path or variable holds a zero byte.
    #[error("an argument, path or variable of the worker contains a zero byte")]
    ZeroByte,
    /// A variable cannot be called this.
    #[error(
        "{0:?} cannot name an environment variable: it is empty or contains '=' or a zero byte"
    )]
    Name(String),
}

fn environment(launch: &Launch, inherited: &Inherited) -> Result<Vec<CString>, CommandError> {
    let inherited = inherited
        .env
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .filter(|(name, _)| !name.starts_with(OWN_PREFIX));
    let mut env: BTreeMap<&[u8], &[u8]> = inherited.collect();

    for (name, value) in &launch.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(CommandError::Name(name.clone()));
        }
        env.insert(name.as_bytes(), value.as_bytes());
    }

    let own = worker_variables(launch);
    env.extend(own.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    env.into_iter().map(|(name, value)| c_string([name, b"=", value].concat())).collect()
}

/// The variables that every worker is given. Both of RUN_ID (0.15) and GENERATION (0.16), since
/// no version minds the other's.
fn worker_variables(launch: &Launch) -> Vec<(&'static str, String)> {
    let spec = &launch.spec;
    let mut variables = vec![
        ("RUST_LOG", "info".to_owned()),
        (WORKER_ID_VARIABLE, launch.worker.to_string()),
        ("ARROYO__WORKER__TASK_SLOTS", spec.slots.to_string()),
        ("ARROYO__ADMIN__HTTP_PORT", "0".to_owned()),
        ("JOB_ID", spec.job.to_string()),
        ("RUN_ID", spec.generation.to_string()),
        ("GENERATION", spec.generation.to_string()),
    ];
    variables.extend(spec.pipeline.iter().map(|pipeline| ("PIPELINE_ID", pipeline.to_string())));
    variables
}

fn c_string(bytes: Vec<u8>) -> Result<CString, CommandError> {
    CString::new(bytes).map_err(|_| CommandError::ZeroByte)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::launch, *};
    use crate::ids::{PipelineId, WorkerId};
    use std::sync::Arc;

    fn inherited(env: &[(&str, &str)]) -> Inherited {
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Inherited { env, cwd: Some("/start".into()) }
    }

    fn texts(list: &[CString]) -> Vec<&str> {
        list.iter().map(|text| text.to_str().unwrap()).collect()
    }

    #[test]
    fn the_environment_is_what_stock_gives_key_by_key() {
        let mut launch = launch(WorkerId(7));
        launch.env = [("LEVEL", "request"), ("RUST_LOG", "trace"), ("JOB_ID", "forged")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let inherited = inherited(&[
            ("HOME", "/root"),
            ("LEVEL", "inherited"),
            ("ARROYO__CONTROLLER_ENDPOINT", "http://c:5116"),
            ("ARROYO_NODE__SECRET", "ours"),
            ("ARROYO__WORKER__ID", "1"),
        ]);
        let mut expected = vec![
            "ARROYO__ADMIN__HTTP_PORT=0",
            "ARROYO__CONTROLLER_ENDPOINT=http://c:5116",
            "ARROYO__WORKER__ID=7",
            "ARROYO__WORKER__TASK_SLOTS=2",
            "GENERATION=3",
            "HOME=/root",
            "JOB_ID=job",
            "LEVEL=request",
            "RUN_ID=3",
            "RUST_LOG=info",
        ];
        let command = WorkerCommand::new("/bin/arroyo");
        let image = command.image(&launch, &inherited).unwrap();
        assert_eq!(texts(&image.envp), expected);

        let mut spec = (*launch.spec).clone();
        spec.pipeline = Some(PipelineId::new("pipe"));
        launch.spec = Arc::new(spec);
        expected.insert(8, "PIPELINE_ID=pipe");
        let image = command.image(&launch, &inherited).unwrap();
        assert_eq!(texts(&image.envp), expected);
    }

    #[test]
    fn the_arguments_begin_with_the_program_as_configured() {
        let image = WorkerCommand::new("bin/arroyo").image(&launch(WorkerId(1)), &inherited(&[]));
        let image = image.unwrap();
        assert_eq!(texts(&image.argv), ["bin/arroyo", "worker"]);
        assert_eq!(texts(&image.candidates), ["/start/bin/arroyo"]);
        assert_eq!(image.cwd.as_deref(), Some(c"/start"));
    }

    #[test]
    fn a_bare_name_is_looked_for_on_path() {
        let path = inherited(&[("PATH", "/usr/local/bin::tools:/bin")]);
        let image = WorkerCommand::new("arroyo").image(&launch(WorkerId(1)), &path).unwrap();
        // An empty entry means the current directory.
        assert_eq!(
            texts(&image.candidates),
            ["/usr/local/bin/arroyo", "/start/arroyo", "/start/tools/arroyo", "/bin/arroyo"]
        );
    }

    #[test]
    fn what_execve_cannot_take_is_refused_without_showing_values() {
        let refusal = |name: &str, value: &str| {
            let mut launch = launch(WorkerId(1));
            launch.env = [(name.to_owned(), value.to_owned())].into();
            WorkerCommand::new("/bin/true").image(&launch, &inherited(&[])).unwrap_err()
        };
        assert_eq!(refusal("A=B", ""), CommandError::Name("A=B".into()));
        assert_eq!(refusal("", "x"), CommandError::Name(String::new()));
        assert!(!refusal("KEY", "secret\0").to_string().contains("secret"));
        let none = WorkerCommand::new("").image(&launch(WorkerId(1)), &inherited(&[]));
        assert_eq!(none.unwrap_err(), CommandError::NoProgram);
    }
}
