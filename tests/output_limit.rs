//! The output of workers, on disk: bounded while an agent runs, whole where it was not cut, and in no
//! worker's way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    unistd::{Whence, lseek},
};
use support::{
    agent::Home, controller::Recorder, eventually, loopback, port_to_keep, program::AgentProgram,
    program::Program,
};

const LIMIT: u64 = 256 * 1024;
/// Of each line, which says its number.
const LINE: u64 = 1024;

/// Writes lines of 1 KiB, some megabytes a second: without end, or this many.
const WRITER: &str = "#!/bin/sh\n\
    i=0\n\
    while [ \"$i\" != \"$LINES_WANTED\" ]; do\n\
        i=$((i + 1))\n\
        printf '%01023d\\n' \"$i\"\n\
        [ $((i % 64)) = 0 ] && sleep 0.01\n\
    done\n\
    exit 0\n";

async fn agent(home: &Home, controller: &str) -> AgentProgram {
    let writer = home.scratch().join("writer");
    if !writer.exists() {
        fs::write(&writer, WRITER).unwrap();
        fs::set_permissions(&writer, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut arguments = home.arguments(controller);
    let at = arguments.iter().position(|word| word == "--worker-command").unwrap();
    arguments[at + 1] = writer.to_str().unwrap().to_owned();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let env = [("ARROYO_NODE__OUTPUT__LIMIT", "256KiB")];
    AgentProgram::serving(Program::run(&home.mark, &arguments, &env)).await
}

/// Whether the file system of this home knows holes.
fn can_be_cut(home: &Home) -> bool {
    let file = File::create(home.scratch().join("probe")).unwrap();
    file.set_len(LIMIT).unwrap();
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let made = fallocate(&file, flags, 0, 4096);
    if made.is_err() {
        println!("skipped: the file system of temporary files makes no holes ({made:?})");
    }
    made.is_ok()
}

/// Where what is kept begins, how long the file is, and how much disk it takes.
fn extent(path: &Path) -> (u64, u64, u64) {
    let file = File::open(path).unwrap();
    // In this order: what is written or cut meanwhile makes it look like more, never like less.
    let start = lseek(&file, 0, Whence::SeekData).map(|at| u64::try_from(at).unwrap());
    let found = file.metadata().unwrap();
    let start = start.unwrap_or(found.len());
    (start, found.len(), found.blocks() * 512)
}

/// Each line that is kept says the number that its place says, up to the last one.
fn assert_whole(path: &Path) {
    let (start, size, _) = extent(path);
    let file = File::open(path).unwrap();
    for at in (start.next_multiple_of(LINE)..size / LINE * LINE).step_by(LINE.try_into().unwrap()) {
        let mut line = vec![0; LINE.try_into().unwrap()];
        file.read_exact_at(&mut line, at).unwrap();
        if line[0] == 0 {
            // Cut meanwhile.
            assert!(extent(path).0 > at, "zeros at {at}, where nothing was cut");
            continue;
        }
        let number: u64 = std::str::from_utf8(&line).unwrap().trim_end().parse().unwrap();
        assert_eq!(number, at / LINE + 1);
    }
}

fn bounded(path: &Path) -> bool {
    let (start, size, taken) = extent(path);
    start > 0 && size - start <= LIMIT && taken <= size - start / 2
}

#[tokio::test]
async fn a_worker_that_writes_without_end_takes_no_more_than_its_share() {
    let home = Home::new();
    if !can_be_cut(&home) {
        return;
    }
    let nobody = format!("http://{}", loopback(port_to_keep()));
    let mut first = agent(&home, &nobody).await;
    let worker = first.start(home.request("endless", 1, &[])).await;
    let path = home.output_file(worker);
    eventually("it has written many times its share, and that was cut", || {
        extent(&path).1 > 8 * LIMIT && bounded(&path)
    })
    .await;
    assert_whole(&path);

    // While there is no agent nobody cuts, and nothing holds the worker up.
    first.program.kill().await;
    let (start, size, _) = extent(&path);
    eventually("it goes on writing", || extent(&path).1 > size + 4 * LIMIT).await;
    assert_eq!(extent(&path).0, start);
    assert_whole(&path);

    let second = agent(&home, &nobody).await;
    eventually("the next agent cuts on", || extent(&path).0 > size && bounded(&path)).await;
    let (_, size, _) = extent(&path);
    eventually("again and again", || extent(&path).0 > size && bounded(&path)).await;
    assert_whole(&path);
    second.stop_by_force(worker).await;
    second.until_exited(worker).await;
}

/// Its last words are cut, too, and still all there from where they were cut.
#[tokio::test]
async fn what_a_worker_wrote_just_before_its_end_is_bounded() {
    let home = Home::new();
    if !can_be_cut(&home) {
        return;
    }
    let recorder = Recorder::start().await;
    let agent = agent(&home, &recorder.url()).await;
    let worker = agent.start(home.request("short", 1, &[("LINES_WANTED", "3000")])).await;
    agent.until_reported(worker).await;
    let path = home.output_file(worker);
    eventually("it is cut", || bounded(&path)).await;
    let (start, size, _) = extent(&path);
    assert_eq!(size, 3000 * LINE);
    assert!(size - start >= LIMIT / 2, "{start} of {size} is too much to cut");
    assert_whole(&path);
}

/// What is short is left alone, to the byte.
#[tokio::test]
async fn what_is_within_the_limit_is_kept() {
    let home = Home::new();
    if !can_be_cut(&home) {
        return;
    }
    let recorder = Recorder::start().await;
    let agent = agent(&home, &recorder.url()).await;
    let worker = agent.start(home.request("brief", 1, &[("LINES_WANTED", "256")])).await;
    agent.until_reported(worker).await;
    // Another one that has to be cut: by then the first has been looked at.
    let other = agent.start(home.request("other", 1, &[])).await;
    eventually("the other is cut", || bounded(&home.output_file(other))).await;
    let path = home.output_file(worker);
    let (start, size, _) = extent(&path);
    assert_eq!((start, size), (0, LIMIT));
    assert_whole(&path);
}
