//! What `/proc` tells of processes: kinship, start time, and whose worker a process calls itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    process,
};

use super::child::worker_named;
use crate::{
    ids::WorkerId,
    machine::Process,
    supervisor::{Environment, ProcessTable, Stat, WORKER_ID_VARIABLE},
};

/// Reads the line of this pid; `None` if there is no such process, or it is hidden from this user
/// (`hidepid`): who runs as another, and who gave up being dumpable.
pub(super) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    // The line has about 50 numbers and a name of at most 64 bytes: one read gets it whole.
    let mut buffer = [0; 2048];
    let length = match File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut buffer))
    {
        Ok(length) => length,
        Err(error) if is_out_of_sight(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match parse_stat(&buffer[..length]) {
        Some(stat) => Ok(stat),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat is not in the form that proc(5) describes"),
        )),
    }
}

/// The name stands in parentheses and may itself contain spaces and parentheses, but nothing
/// after it does: so the last `)` ends it. `Some(None)`: the process was reaped while the kernel
/// made the line, so that its group and session are given as -1. `None`: it is no such line.
pub(super) fn parse_stat(line: &[u8]) -> Option<Option<Stat>> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let open = line.iter().position(|&byte| byte == b'(')?;
    let close = line.iter().rposition(|&byte| byte == b')')?;
    let pid = text(line.get(..open)?)?.trim().parse().ok()?;
    let loading = line.get(open + 1..close).and_then(worker_named).map(WorkerId);

    // Field 3, the state, comes first here; field 22, the start time, 19 fields later.
    let mut fields = text(line.get(close + 1..)?)?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent: i32 = fields.next()?.parse().ok()?;
    let group: i32 = fields.next()?.parse().ok()?;
    let session: i32 = fields.next()?.parse().ok()?;
    let threads: i64 = fields.nth(13)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let process = Process { pid, start_time };
    let kin = [parent, group, session].map(u32::try_from);
    let [Ok(parent), Ok(group), Ok(session)] = kin else { return Some(None) };
    let kernel_thread = session == 0 && (pid == KTHREADD || parent == KTHREADD);
    // A process whose first thread has ended is shown as a zombie while its others run on.
    let dead = state == b'X' || (state == b'Z' && threads <= 1);
    Some(Some(Stat { process, dead, parent, group, session, loading, kernel_thread }))
}

/// The parent of the kernel's threads.
const KTHREADD: u32 = 2;

/// The worker that this process was started for, by its environment; `None` also when there is
/// no such process any more or its environment may not be read.
pub(super) fn worker_of(process: Process) -> Option<WorkerId> {
    environment(process).as_deref().and_then(worker_in)
}

/// The variables with which this process was started, each ended by a zero byte.
pub(super) fn environment(process: Process) -> Option<Vec<u8>> {
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
    // The pid may have gone to somebody else just before that read.
    is_same(process).then_some(environment)
}

/// What the environment of a process says about whose it is.
pub(super) fn read_environment(process: Process) -> Environment {
    match environment(process) {
        Some(environment) if !environment.is_empty() => {
            worker_in(&environment).map_or(Environment::NamesNone, Environment::Names)
        }
        _ => Environment::Unreadable,
    }
}

/// The worker that an environment names.
pub(super) fn worker_in(environment: &[u8]) -> Option<WorkerId> {
    let worker = environment.split(|&byte| byte == 0).find_map(|variable| {
        let id = variable.strip_prefix(WORKER_ID_VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(id).ok()?.parse().ok()
    })?;
    Some(WorkerId(worker))
}

/// Whether the pid is still this process's.
pub(super) fn is_same(process: Process) -> bool {
    matches!(stat(process.pid), Ok(Some(stat)) if process.is_same_as(stat.process))
}

/// How often a list of children is read that holds something new each time.
const MAX_ROUNDS: usize = 16;

/// All processes of the machine (of this pid namespace). One that is started meanwhile mostly has a
/// higher pid than all others and is still met.
pub(super) fn read_all() -> io::Result<ProcessTable> {
    let began_at = ticks_since_boot()?;
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid)? {
            processes.insert(pid, stat);
        }
    }
    Ok(ProcessTable { reader: process::id(), processes, ..ProcessTable::default() }
        .with_certain_parents(began_at))
}

/// The descendants of this process, which must be their subreaper; without the children to be
/// skipped and what is below them.
///
/// Misses nothing: what loses its parent meanwhile becomes a child of this process, whose list of
/// children only it can shorten, and which is read until it holds nothing new. A fork loop would
/// have it read without end: then it is cut short.
pub(super) fn read_descendants(skip: &BTreeSet<u32>) -> io::Result<ProcessTable> {
    let began_at = ticks_since_boot()?;
    let mut table =
        ProcessTable { reader: process::id(), of_workers_only: true, ..ProcessTable::default() };
    // Also what is hidden: looking again would not show it, and would go on for ever.
    let mut seen = skip.clone();
    for round in 0.. {
        let mut unseen = children(process::id())?;
        unseen.retain(|pid| !seen.contains(pid));
        table.cut_short = round == MAX_ROUNDS;
        if unseen.is_empty() || table.cut_short {
            break;
        }
        while let Some(pid) = unseen.pop() {
            if seen.insert(pid)
                && let Some(stat) = stat(pid)?
            {
                table.processes.insert(pid, stat);
                unseen.extend(children(pid)?);
            }
        }
    }
    Ok(table.with_certain_parents(began_at))
}

trait CertainParents {
    /// Leaves out each parent whose pid may not have meant the same process all the while. What was
    /// there before the table was read was not born to something that took the pid since.
    fn with_certain_parents(self, began_at: u64) -> Self;
}

impl CertainParents for ProcessTable {
    fn with_certain_parents(mut self, began_at: u64) -> Self {
        let of_young = self.processes.values().filter(|stat| stat.process.start_time >= began_at);
        let doubtful: BTreeSet<u32> = of_young
            .filter_map(|child| Some(self.processes.get(&child.parent)?.process))
            .filter(|&parent| !is_same(parent))
            .map(|parent| parent.pid)
            .collect();
        for stat in self.processes.values_mut() {
            if stat.process.start_time >= began_at && doubtful.contains(&stat.parent) {
                stat.parent = 0;
            }
        }
        self
    }
}

/// Whether this kernel lists the children of processes (`CONFIG_PROC_CHILDREN`).
pub(super) fn lists_children() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    let threads = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads,
        Err(error) if is_out_of_sight(&error) => return Ok(children),
        Err(error) => return Err(error),
    };
    for thread in threads {
        let list = match thread.and_then(|thread| fs::read(thread.path().join("children"))) {
            Ok(list) => list,
            Err(error) if is_out_of_sight(&error) => continue,
            Err(error) => return Err(error),
        };
        let list = String::from_utf8_lossy(&list);
        children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

fn ticks_since_boot() -> io::Result<u64> {
    // Seconds with two decimals: hundredths, which is what the kernel counts ticks in.
    let uptime = fs::read_to_string("/proc/uptime")?;
    let hundredths = uptime.split(' ').next().map(|seconds| seconds.replace('.', ""));
    hundredths.and_then(|ticks| ticks.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/uptime says {uptime:?}"))
    })
}

/// A process can vanish before its file is opened (ENOENT) and before it is read (ESRCH). One that is
/// hidden is not there either (ENOENT), or may not be looked at (EPERM, EACCES).
fn is_out_of_sight(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::ENOENT | libc::ESRCH | libc::EPERM | libc::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_spaces_and_parentheses() {
        let line = b"4711 (a) S 1 (b)) R 12 34 56 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = parse_stat(line).unwrap().unwrap();
        assert_eq!(stat.process, Process { pid: 4711, start_time: 987_654 });
        assert_eq!(
            (stat.dead, stat.parent, stat.group, stat.session, stat.loading),
            (false, 12, 34, 56, None),
            "the name ends at the last parenthesis"
        );
    }

    #[test]
    fn a_process_that_is_reaped_meanwhile_is_none() {
        let line = b"4711 (sh) X 0 -1 -1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(line), Some(None));
    }

    #[test]
    fn a_cut_line_is_refused() {
        for line in ["", "12", "12 (sh", "12 (sh) S 1 2 3 4 5", "x (sh) S 1 1 1 0"] {
            assert_eq!(parse_stat(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn this_process_is_found_and_started_before_now() {
        let table = read_all().unwrap();
        let this = table.processes[&std::process::id()];
        assert!(this.process.start_time <= ticks_since_boot().unwrap());
        assert!(table.processes.contains_key(&this.parent), "its parent is there as well");
        assert!(is_same(this.process));
        let other = Process { start_time: this.process.start_time + 1, ..this.process };
        assert!(!is_same(other));
    }

    #[test]
    fn no_process_is_no_error() {
        // Above the kernel's greatest possible pid.
        assert_eq!(stat(1 << 30).unwrap(), None);
    }
}
