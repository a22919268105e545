//! From a [`Launch`] to an [`ExecSpec`]. What all workers have in common is worked out once, since
//! every StartWorker waits for this.
//!
//! ```text
//!  environment, later wins:
//!    this process's own, but for ARROYO_NODE__*   (settings of the agent, which a stock worker
//!                                                  need not understand)
//!    those of the command
//!    the variables of the StartWorker
//!    RUST_LOG=info  ARROYO__WORKER__ID  ARROYO__WORKER__TASK_SLOTS  ARROYO__ADMIN__HTTP_PORT=0
//!    JOB_ID  RUN_ID  GENERATION  [PIPELINE_ID]
//! ```
//!
//! Nothing here touches the system; the same input gives the same bytes in the same order.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CStr, CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ExecSpec, OutputFiles, WORKER_ID_VARIABLE,
    command::{CommandError, WorkerCommand},
};
use crate::{
    ids::WorkerId,
    machine::{Launch, SpawnError},
};

const OWN_PREFIX: &[u8] = b"ARROYO_NODE__";

/// What workers inherit of the process that starts them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inherited {
    /// Its environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory; `None`: unknown, since it has been deleted.
    pub cwd: Option<PathBuf>,
}

impl Inherited {
    fn absolute(&self, path: &Path) -> PathBuf {
        match &self.cwd {
            Some(cwd) => cwd.join(path),
            None => path.to_owned(),
        }
    }
}

/// Where workers' output and cgroups are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// The directory of their output; `None`: it is thrown away.
    pub output: Option<PathBuf>,
    /// The cgroup below which each has its own; `None`: they stay in their supervisor's.
    pub groups: Option<PathBuf>,
}

/// How a worker's program is run; or why none can be, which is every start's to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandTemplate {
    command: WorkerCommand,
    common: Result<Common, CommandError>,
    places: Places,
}

/// What does not depend on the worker.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Common {
    candidates: Vec<Arc<CStr>>,
    argv: Vec<Arc<CStr>>,
    /// `NAME=value`, by name.
    env: BTreeMap<Vec<u8>, Arc<CStr>>,
    cwd: Option<Arc<CStr>>,
}

impl CommandTemplate {
    /// The template for this command, run by a process that has these to leave to it.
    pub fn new(command: &WorkerCommand, inherited: &Inherited, places: Places) -> Self {
        let common = Common::new(command, inherited);
        Self { command: command.clone(), common, places }
    }

    /// Everything that is needed to run that worker's program.
    ///
    /// # Errors
    /// The command or the launch cannot be put in the form that `execve` takes.
    pub fn spec(&self, launch: &Launch) -> Result<ExecSpec, SpawnError> {
        self.try_spec(launch).map_err(|error| self.spawn_error(&error.to_string()))
    }

    /// What to tell of a launch that failed for this reason.
    pub fn spawn_error(&self, reason: &str) -> SpawnError {
        self.command.spawn_error(reason)
    }

    fn try_spec(&self, launch: &Launch) -> Result<ExecSpec, CommandError> {
        let spec = self.common.as_ref().map_err(Clone::clone)?.spec(launch)?;
        let output = self.places.output.as_deref().map(|dir| output_files(dir, launch.worker));
        let group = self.places.groups.as_deref().map(|base| base.join(launch.worker.to_string()));
        Ok(ExecSpec { output: output.transpose()?, group: group.map(path).transpose()?, ..spec })
    }
}

fn output_files(dir: &Path, worker: WorkerId) -> Result<OutputFiles, CommandError> {
    Ok(OutputFiles {
        dir: path(dir.to_owned())?,
        stdout: path(dir.join(format!("{worker}.out")))?,
        stderr: path(dir.join(format!("{worker}.err")))?,
    })
}

fn path(path: PathBuf) -> Result<Arc<CStr>, CommandError> {
    c_string(path.into_os_string().into_vec())
}

impl Common {
    fn new(command: &WorkerCommand, inherited: &Inherited) -> Result<Self, CommandError> {
        let own_name = command.program.as_os_str().as_bytes();
        let args = command.args.iter().map(|arg| arg.as_bytes());
        let cwd = match &command.cwd {
            Some(cwd) => Some(inherited.absolute(cwd)),
            None => inherited.cwd.clone(),
        };
        let env = inherited.env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let env = env.filter(|(name, _)| !name.starts_with(OWN_PREFIX));
        let of_command =
            command.env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        Ok(Self {
            candidates: candidates(&command.program, inherited)?,
            argv: [own_name].into_iter().chain(args).map(c_string).collect::<Result<_, _>>()?,
            env: env
                .chain(of_command)
                .map(|(name, value)| Ok((name.to_owned(), variable(name, value)?)))
                .collect::<Result<_, _>>()?,
            cwd: cwd.map(path).transpose()?,
        })
    }

    fn spec(&self, launch: &Launch) -> Result<ExecSpec, CommandError> {
        let common = self.env.iter().map(|(name, variable)| (name.as_slice(), variable.clone()));
        let mut env: BTreeMap<&[u8], Arc<CStr>> = common.collect();
        for (name, value) in &launch.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(CommandError::Name(name.clone()));
            }
            env.insert(name.as_bytes(), variable(name.as_bytes(), value.as_bytes())?);
        }
        for (name, value) in worker_variables(launch) {
            env.insert(name.as_bytes(), variable(name.as_bytes(), value.as_bytes())?);
        }
        Ok(ExecSpec {
            candidates: self.candidates.clone(),
            argv: self.argv.clone(),
            envp: env.into_values().collect(),
            cwd: self.cwd.clone(),
            ..ExecSpec::default()
        })
    }
}

/// The paths at which a program may be, in the order of `execvp`.
fn candidates(program: &Path, inherited: &Inherited) -> Result<Vec<Arc<CStr>>, CommandError> {
    let bytes = program.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(CommandError::NoProgram);
    }
    let paths = if bytes.contains(&b'/') {
        vec![inherited.absolute(program)]
    } else {
        let search = inherited.env.get(OsStr::new("PATH"));
        let search = search.map_or(OsStr::new("/bin:/usr/bin"), OsString::as_os_str);
        env::split_paths(search).map(|dir| inherited.absolute(&dir.join(program))).collect()
    };
    paths.into_iter().map(path).collect()
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

fn variable(name: &[u8], value: &[u8]) -> Result<Arc<CStr>, CommandError> {
    c_string([name, b"=", value].concat())
}

fn c_string(bytes: impl Into<Vec<u8>>) -> Result<Arc<CStr>, CommandError> {
    CString::new(bytes).map(Arc::from).map_err(|_| CommandError::ZeroByte)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::launch, *};
    use crate::ids::{PipelineId, WorkerId};

    fn inherited(env: &[(&str, &str)]) -> Inherited {
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Inherited { env, cwd: Some("/start".into()) }
    }

    fn spec(
        program: &str,
        launch: &Launch,
        inherited: &Inherited,
    ) -> Result<ExecSpec, CommandError> {
        let command = WorkerCommand::new(program);
        CommandTemplate::new(&command, inherited, Places::default()).try_spec(launch)
    }

    fn texts(list: &[Arc<CStr>]) -> Vec<&str> {
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
        let made = spec("/bin/arroyo", &launch, &inherited).unwrap();
        assert_eq!(texts(&made.envp), expected);

        let mut in_pipeline = (*launch.spec).clone();
        in_pipeline.pipeline = Some(PipelineId::new("pipe"));
        launch.spec = Arc::new(in_pipeline);
        expected.insert(8, "PIPELINE_ID=pipe");
        let made = spec("/bin/arroyo", &launch, &inherited).unwrap();
        assert_eq!(texts(&made.envp), expected);
    }

    #[test]
    fn a_commands_variables_lie_between_the_agents_and_the_requests() {
        let mut launch = launch(WorkerId(1));
        launch.env = [("BOTH".to_owned(), "request".to_owned())].into();
        let mut command = WorkerCommand::new("/bin/arroyo");
        command.env = [("BOTH", "command"), ("URL", "command")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let inherited = inherited(&[("URL", "inherited"), ("OTHER", "inherited")]);
        let made =
            CommandTemplate::new(&command, &inherited, Places::default()).spec(&launch).unwrap();
        for variable in ["BOTH=request", "URL=command", "OTHER=inherited"] {
            assert!(texts(&made.envp).contains(&variable), "{variable}");
        }
    }

    #[test]
    fn the_arguments_begin_with_the_program_as_configured() {
        let made = spec("bin/arroyo", &launch(WorkerId(1)), &inherited(&[])).unwrap();
        assert_eq!(texts(&made.argv), ["bin/arroyo", "worker"]);
        assert_eq!(texts(&made.candidates), ["/start/bin/arroyo"]);
        assert_eq!(made.cwd.as_deref(), Some(c"/start"));
    }

    #[test]
    fn a_bare_name_is_looked_for_on_path() {
        let path = inherited(&[("PATH", "/usr/local/bin::tools:/bin")]);
        let made = spec("arroyo", &launch(WorkerId(1)), &path).unwrap();
        // An empty entry means the current directory.
        assert_eq!(
            texts(&made.candidates),
            ["/usr/local/bin/arroyo", "/start/arroyo", "/start/tools/arroyo", "/bin/arroyo"]
        );
    }

    #[test]
    fn output_and_cgroup_are_named_after_the_worker() {
        let places =
            Places { output: Some("/state/output".into()), groups: Some("/cg/workers".into()) };
        let command = WorkerCommand::new("/bin/arroyo");
        let template = CommandTemplate::new(&command, &inherited(&[]), places);
        let made = template.spec(&launch(WorkerId(7))).unwrap();
        let output = made.output.unwrap();
        assert_eq!(output.dir.as_ref(), c"/state/output");
        assert_eq!(output.stdout.as_ref(), c"/state/output/7.out");
        assert_eq!(output.stderr.as_ref(), c"/state/output/7.err");
        assert_eq!(made.group.as_deref(), Some(c"/cg/workers/7"));
    }

    #[test]
    fn what_execve_cannot_take_is_refused_without_showing_values() {
        let refusal = |name: &str, value: &str| {
            let mut launch = launch(WorkerId(1));
            launch.env = [(name.to_owned(), value.to_owned())].into();
            spec("/bin/true", &launch, &inherited(&[])).unwrap_err()
        };
        assert_eq!(refusal("A=B", ""), CommandError::Name("A=B".into()));
        assert_eq!(refusal("", "x"), CommandError::Name(String::new()));
        assert!(!refusal("KEY", "secret\0").to_string().contains("secret"));
        let none = spec("", &launch(WorkerId(1)), &inherited(&[]));
        assert_eq!(none.unwrap_err(), CommandError::NoProgram);
    }
}
