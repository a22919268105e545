//! An agent driven by gRPC's C implementation, from Python, in both dialects and over mTLS: see
//! `drive.py`. The implementation is installed into a directory of its own; where there is no
//! Python, or no way to get it, the tests say that they are skipped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../tls/certificates.rs"]
#[allow(dead_code, reason = "one certificate is enough here")]
mod certificates;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use certificates::{Authority, Files};
use serde_json::{Value, json};
use support::{
    agent::Home,
    program::{AgentProgram, Program},
};

/// A Python that has grpcio, or why there is none.
fn python() -> Result<&'static Path, &'static str> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(install).as_deref().map_err(String::as_str)
}

fn install() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpcio");
    let python = dir.join("bin/python3");
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    };
    if run(&python, &["-c", "import grpc"]).is_err() {
        run("python3".as_ref(), &["-m", "venv", dir.to_str().unwrap()])?;
        run(&python, &["-m", "pip", "install", "--quiet", "--retries", "1", "grpcio"])?;
    }
    Ok(python)
}

/// The controller, killed when it is dropped.
struct Driver {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    port: u64,
}

impl Driver {
    fn start(python: &Path, tls: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/other_make/drive.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(tls.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut driver = Self { child, stdin, stdout: BufReader::new(stdout), port: 0 };
        driver.port = driver.line()["port"].as_u64().unwrap();
        driver
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("it failed, see above: {line:?}"))
    }

    fn drive(&mut self, task: &Value) -> Value {
        writeln!(self.stdin, "{task}").unwrap();
        self.line()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn golden(name: &str) -> Value {
    let text = fs::read_to_string("tests/golden/wire.json").unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let mut cases = golden["cases"].as_array().unwrap().iter();
    cases.find(|case| case["name"] == name).unwrap().clone()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Lets the other make start a worker with these golden bytes, and read its end in this dialect.
async fn is_driven(start: &str, flags: &[&str], report: &str, over_tls: bool) {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("SKIPPED: no Python with grpcio: {why}");
            return;
        }
    };
    let case = golden(start);
    let mut home = Home::new();
    home.machine = case["fields"]["machine_id"].as_str().unwrap().to_owned();
    let (mut tls, mut env) = (Value::Null, Vec::new());
    if over_tls {
        let ca = Authority::new(&home.scratch(), "ca");
        let (agent, controller): (Files, Files) = (ca.issue("agent"), ca.issue("controller"));
        tls = json!({
            "ca": text(&ca.file), "cert": text(&controller.cert), "key": text(&controller.key),
        });
        env = vec![
            ("ARROYO__TLS__ENABLED", "true".to_owned()),
            ("ARROYO__TLS__CERT_FILE", text(&agent.cert)),
            ("ARROYO__TLS__KEY_FILE", text(&agent.key)),
            ("ARROYO__TLS__MTLS_CA_FILE", text(&ca.file)),
        ];
    }
    let mut driver = Driver::start(python, &tls);
    let mut arguments = home.arguments(&format!("http://127.0.0.1:{}", driver.port));
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &arguments, &env)).await;

    let task = json!({
        "machine": home.machine, "address": agent.address.to_string(), "report": report,
        "start": case["hex"], "fields": case["fields"],
    });
    let done = tokio::task::spawn_blocking(move || driver.drive(&task)).await.unwrap();
    assert!(done["worker"].is_string(), "{done}");
}

#[tokio::test]
async fn an_agent_is_driven_in_dialect_0_15() {
    is_driven("start_0_15", &[], "0.15", false).await;
}

#[tokio::test]
async fn an_agent_is_driven_in_dialect_0_16() {
    is_driven("start_0_16", &[], "0.16", false).await;
}

#[tokio::test]
async fn a_dialect_can_be_forced() {
    is_driven("start_0_16", &["--dialect", "0.15"], "0.15", false).await;
    is_driven("start_0_15", &["--dialect", "0.16"], "0.16", false).await;
}

#[tokio::test]
async fn an_agent_is_driven_over_mtls() {
    is_driven("start_0_16", &[], "0.16", true).await;
}
