//! The binary, as real processes.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    PATIENCE, PROGRAM,
    agent::Home,
    calls::Calls,
    eventually,
    processes::{MARK, Mark},
    soon,
};

/// A run of `arroyo-node`. Killed when it is dropped.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Runs it with these arguments and, but for `PATH` and the mark, no other variables than these.
    pub fn run(mark: &Mark, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        Self::run_copy(Path::new(PROGRAM), mark, arguments, env)
    }

    /// The same with a copy of the program.
    pub fn run_copy(program: &Path, mark: &Mark, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env(MARK, mark.value())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is there");
        let said = Arc::default();
        listen(child.stdout.take().expect("piped"), &said);
        listen(child.stderr.take().expect("piped"), &said);
        Self { child, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line that it has written, to stdout or stderr.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Waits for a line that contains this.
    pub async fn line_with(&self, text: &str) -> String {
        self.line(text, |line| line.contains(text)).await
    }

    /// Waits for a line of this kind.
    pub async fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if let Some(line) = said.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "it does not say {what:?}: {said:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn signal(&self, signal: Signal) {
        // The child has not been waited for: its pid is still its own.
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it can be signalled");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be waited for")
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `kill -9`, and waits for its end.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.end().await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("it said: {:#?}", self.said());
        }
    }
}

fn listen(output: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = said.clone();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            said.lock().expect("nobody panics with it").push(line);
        }
    });
}

/// A run of `arroyo-node node` that serves.
pub struct AgentProgram {
    pub program: Program,
    /// Of the gRPC API.
    pub address: SocketAddr,
    /// Of the metrics.
    pub admin: SocketAddr,
    calls: Calls,
}

impl Home {
    /// What `arroyo-node node` needs to live here.
    pub fn arguments(&self, controller: &str) -> Vec<String> {
        let port = self.address.port().to_string();
        let state_dir = self.state_dir().to_str().expect("UTF-8").to_owned();
        let own = [
            ("--id", self.machine.as_str()),
            ("--bind-address", "127.0.0.1"),
            ("--rpc-port", &port),
            ("--admin-address", "127.0.0.1"),
            ("--admin-port", "0"),
            ("--controller", controller),
            ("--state-dir", &state_dir),
            ("--worker-command", PROGRAM),
            ("--kill-after", "300ms"),
        ];
        let options = own.iter().flat_map(|(name, value)| [*name, *value]);
        let all = ["node"].into_iter().chain(options).chain(self.parent.flags().iter().copied());
        all.map(str::to_owned).collect()
    }

    /// Runs `arroyo-node node` here, with these arguments besides.
    pub async fn run(&self, controller: &str, more: &[&str]) -> AgentProgram {
        let own = self.arguments(controller);
        let arguments: Vec<&str> =
            own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        AgentProgram::serving(Program::run(&self.mark, &arguments, &[])).await
    }
}

impl AgentProgram {
    /// Waits until this program, an agent, serves.
    pub async fn serving(program: Program) -> Self {
        let address = |line: String, name: &str| {
            let value = line.split_once(name).expect("the line has it").1;
            let value = value.split_whitespace().next().unwrap_or_default();
            value.parse().expect("an address")
        };
        let bound = program.line("bound", |line| line.contains(": bound ")).await;
        let admin = program.line_with("status page and metrics").await;
        let bound = address(bound, " address=");
        let admin = address(admin, "admin=");
        Self { program, address: bound, admin, calls: Calls::to(bound) }
    }

    /// The value of one sample of `/metrics`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let page = soon("the metrics", get(self.admin, "/metrics")).await;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

impl Deref for AgentProgram {
    type Target = Calls;

    fn deref(&self) -> &Calls {
        &self.calls
    }
}

/// The answer to a GET, headers and all.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it can be connected to");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("it takes the request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("it answers in UTF-8");
    answer
}

/// Waits until a port of 127.0.0.1 is free again.
pub async fn until_free(address: SocketAddr) {
    eventually("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
}
