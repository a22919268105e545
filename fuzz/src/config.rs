//! Any text, as a settings file: settings that a machine can live by, or an error that names the file
//! and the key. Secrets are not shown.

use std::{fs, path::Path};

use arroyo_node::{
    config::{self, ConfigError, Loaded, Places, own::Own, stock::AuthMode},
    ids::MachineId,
    machine::{
        CallError, Config, Effects, Event, Heartbeat, Machine, Mono, Now, Recovered, Shutdown, Wall,
    },
};
use figment::{
    Provider as _,
    providers::{Format as _, Toml},
};

/// How texts begin that the target takes for secrets.
const SECRET: &str = "secret-";

/// The kinds of file. An input begins with the number of one; the rest is the file.
const KINDS: [&str; 4] = ["stock.toml", "stock.yaml", "stock.json", "own.toml"];

/// Reads the file that `bytes` describe.
pub fn config(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let name = KINDS[usize::from(*kind) % KINDS.len()];
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let path = dir.path().join(name);
    fs::write(&path, text).expect("room for a file");
    let file = Some(path.clone());
    let places = match name {
        "own.toml" => Places { node_file: file, ..Places::default() },
        _ => Places { file, ..Places::default() },
    };
    match config::load(&places) {
        Ok(loaded) => {
            in_effect(&loaded, &String::from_utf8_lossy(text));
            live_by(&loaded.own);
        }
        Err(error) => refused(&error, &path),
    }
}

/// What is shown can be read, is complete, and shows no secret.
fn in_effect(loaded: &Loaded, text: &str) {
    let shown = loaded.render();
    let read = Toml::string(&shown).data();
    assert!(read.is_ok(), "{:?} in\n{shown}", read.err());
    assert!(shown.contains("\nnode.task-slots = ") && shown.contains("\nkill-after = "));
    if let AuthMode::StaticApiKey { api_key } = &loaded.stock.admin.auth_mode
        && api_key.reveal().starts_with(SECRET)
        && text.matches(api_key.reveal()).count() == 1
    {
        assert!(!shown.contains(api_key.reveal()), "a secret is shown");
    }
    for notice in &loaded.notices {
        assert!(!notice.is_empty());
    }
}

/// The beginning and the end of an agent with these settings: connected, disconnected, ending.
fn live_by(own: &Own) {
    let mut config = Config::new(MachineId::new("node"));
    own.apply_to(&mut config, false);
    let mut now = Now { mono: Mono(1_000_000_000), wall: Wall(1_750_000_000_000_000) };
    let mut machine = Machine::new(config, [7; 32], Recovered::default(), now);
    let failed = CallError::Failed("the controller is ill".into());
    let answered = |probe, result| {
        let heartbeat = Heartbeat { sent: now, probe };
        Event::HeartbeatAnswered { heartbeat, result }
    };
    for event in [
        Event::Begin,
        answered(true, Ok(())),
        Event::Registered(Ok(())),
        Event::Timeout,
        answered(false, Err(failed.clone())),
        Event::Timeout,
        answered(true, Err(CallError::NotFound)),
        Event::Registered(Err(failed)),
        Event::Timeout,
        Event::JournalFailed("the disk is full".into()),
        Event::Timeout,
        Event::Shutdown(Shutdown::StopWorkers),
    ] {
        if let Some((deadline, _)) = machine.next_timeout().filter(|_| event == Event::Timeout) {
            now.mono = now.mono.max(deadline);
        }
        machine.handle(now, event, &mut Effects::default());
    }
}

/// A person is told where to look.
fn refused(error: &ConfigError, path: &Path) {
    let said = error.to_string();
    let (source_name, key) = match error {
        ConfigError::Unreadable { source_name, problem } => (source_name, problem),
        ConfigError::Value { source_name, key, .. } => (source_name, key),
        ConfigError::Unknown { source_name, key, .. }
        | ConfigError::NoSwitch { source_name, key, .. } => (source_name, key),
        ConfigError::Missing { .. }
        | ConfigError::NoFile { .. }
        | ConfigError::OwnFileAmongStock { .. } => {
            panic!("the file is there: {said}")
        }
    };
    assert!(said.contains(source_name) && said.contains(key.as_str()), "{said}");
    assert!(!key.is_empty(), "{said}");
    assert_eq!(source_name, &path.display().to_string(), "{said}");
}
