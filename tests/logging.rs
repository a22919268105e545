//! Log lines of the binary, as its `logging` settings say.

mod support;

use std::{
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use support::{
    PROGRAM,
    agent::Home,
    calls::Calls,
    eventually, loopback, port_to_keep,
    processes::MARK,
    program::{AgentProgram, Program},
    soon,
};

/// What an agent with these variables has logged by the time that it serves, its own lines of
/// before the settings were read included.
async fn lines(env: &[(&str, &str)]) -> Vec<String> {
    let home = Home::new();
    // Nobody is there: that gives a warning, too.
    let arguments = home.arguments(&format!("http://{}", loopback(port_to_keep())));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut program = Program::run(&home.mark, &arguments, env);
    program.line_with("status page and metrics").await;
    program.line_with("controller not reached").await;
    program.kill().await;
    let lines = program.said();
    assert!(lines.len() >= 3, "{lines:#?}");
    lines
}

const SITE: (&str, &str) = ("ARROYO__LOGGING__STATIC_FIELDS__SITE", "north \"one\"");
const RACK: (&str, &str) = ("ARROYO__LOGGING__STATIC_FIELDS__RACK", "r7");

#[tokio::test]
async fn every_json_line_has_the_static_fields_where_stock_has_them() {
    for line in lines(&[("ARROYO__LOGGING__FORMAT", "json"), SITE, RACK]).await {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!((&value["site"], &value["rack"]), (&json!("north \"one\""), &json!("r7")));
        for own in ["timestamp", "level", "target", "fields"] {
            assert!(value.get(own).is_some(), "{own}: {line}");
        }
    }
}

#[tokio::test]
async fn every_plain_line_has_the_static_fields() {
    for line in lines(&[SITE, RACK]).await {
        assert!(line.ends_with(r#" rack="r7" site="north \"one\"""#), "{line}");
    }
}

#[tokio::test]
async fn every_logfmt_line_has_the_static_fields() {
    for line in lines(&[("ARROYO__LOGGING__FORMAT", "logfmt"), SITE, RACK]).await {
        assert!(line.starts_with("ts=") && line.contains(" level="), "{line}");
        assert!(line.ends_with(r#" rack=r7 site="north \"one\"""#), "{line}");
    }
}

#[tokio::test]
async fn a_static_field_cannot_take_the_place_of_a_lines_own() {
    let level = ("ARROYO__LOGGING__STATIC_FIELDS__LEVEL", "none");
    let lines = lines(&[("ARROYO__LOGGING__FORMAT", "json"), level, RACK]).await;
    assert!(lines.iter().any(|line| line.contains("logging.static-fields.level is left out")));
    for line in lines {
        let value: Value = serde_json::from_str(&line).unwrap();
        assert!(["INFO", "WARN"].iter().any(|level| value["level"] == *level), "{line}");
        assert_eq!(value["rack"], "r7");
        assert_eq!(line.matches("\"level\":").count(), 1, "{line}");
    }
}

/// Stock's other switches: where in the source an event is, and a thread for writing.
#[tokio::test]
async fn lines_say_where_they_come_from_if_asked() {
    let env = [
        ("ARROYO__LOGGING__FORMAT", "json"),
        ("ARROYO__LOGGING__ENABLE_FILE_NAME", "true"),
        ("ARROYO__LOGGING__ENABLE_FILE_LINE", "true"),
        ("ARROYO__LOGGING__NONBLOCKING", "true"),
        ("ARROYO__LOGGING__BUFFERED_LINES_LIMIT", "4611686018427387904"),
    ];
    for line in lines(&env).await {
        let value: Value = serde_json::from_str(&line).unwrap();
        assert!(value["filename"].as_str().unwrap().ends_with(".rs"), "{line}");
        assert!(value["line_number"].as_u64().unwrap() > 0, "{line}");
    }
}

#[tokio::test]
async fn the_level_is_rust_logs_and_else_the_settings() {
    let loud = |lines: &[String]| lines.iter().any(|line| line.contains(" INFO "));
    assert!(loud(&lines(&[]).await));
    let home = Home::new();
    let arguments = home.arguments(&format!("http://{}", loopback(port_to_keep())));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let quiet = ("ARROYO__LOGGING__MIN_LEVEL", "warn");
    let mut program = Program::run(&home.mark, &arguments, &[quiet]);
    program.line_with("controller not reached").await;
    program.kill().await;
    assert!(!loud(&program.said()), "{:#?}", program.said());
    let program = Program::run(&home.mark, &arguments, &[quiet, ("RUST_LOG", "info")]);
    AgentProgram::serving(program).await;
}

/// Stdout is for what commands answer.
#[tokio::test]
async fn log_lines_go_to_stderr() {
    let home = Home::new();
    let mut child = std::process::Command::new(support::PROGRAM)
        .args(home.arguments(&format!("http://{}", loopback(port_to_keep()))))
        .env(support::processes::MARK, home.mark.value())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let lines = std::io::BufRead::lines(std::io::BufReader::new(err));
    let served = lines.map_while(Result::ok).any(|line| line.contains("status page and metrics"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(served);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut out, &mut said).unwrap();
    assert_eq!(said, "");
}

/// As when somebody starts an agent with a pipe and never reads from it.
#[tokio::test]
async fn an_agent_whose_log_nobody_reads_goes_on() {
    let home = Home::new();
    let (mut reader, mut pipe) = io::pipe().unwrap();
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut agent = Command::new(PROGRAM)
        .args(home.arguments(&format!("http://{}", loopback(port_to_keep()))))
        .env(MARK, home.mark.value())
        .stderr(Stdio::from(OwnedFd::from(pipe)))
        .spawn()
        .unwrap();
    let calls = Calls::to(home.address);
    let serves = async {
        while calls.heartbeat(&home.machine).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("an answer", serves).await;
    let worker = calls.start(home.request("job", 1, &[])).await;
    home.until_ready(worker).await;

    // Now somebody does. The agent is told to end only when there is room.
    let mut filling = [0; 65_536];
    let length = reader.read(&mut filling).unwrap();
    assert!(filling[..length].iter().all(|&byte| byte == b'x'));
    let rest = thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        rest
    });
    kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM).unwrap();
    eventually("it has ended", || agent.try_wait().unwrap().is_some()).await;
    assert!(agent.wait().unwrap().success());
    let said = rest.join().unwrap();
    assert!(said.contains(" log lines were lost here") && said.contains("finished"), "{said}");
}
