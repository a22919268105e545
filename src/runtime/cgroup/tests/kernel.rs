//! In the kernel's own cgroups, with real processes; left out, aloud, where there are none.

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::sandbox::{Process, Sandbox, is_ready, wait_until};
use crate::runtime::cgroup::{
    Discovery, Error, Group, Host, Mode, Placement, Role, Subtree, discover, list,
};

#[test]
fn a_kill_empties_the_group() {
    let Some(sandbox) = Sandbox::new("kill") else { return };
    let group = sandbox.group();
    assert!(!group.is_populated().unwrap());
    let mut process = Process::start(group.path(), "sleep 60 & exec sleep 60");
    wait_until(|| group.processes().unwrap().len() == 2);
    assert!(group.processes().unwrap().contains(&process.0.id()));
    assert!(group.is_populated().unwrap());
    assert!(group.remove().unwrap_err().is_busy());
    assert!(matches!(Group::create(&sandbox.path, "1"), Err(Error::Populated { .. })));

    group.kill().unwrap();
    wait_until(|| !group.is_populated().unwrap());
    assert!(group.processes().unwrap().is_empty());
    assert!(!process.0.wait().unwrap().success());
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(!group.path().exists());
}

#[test]
fn events_are_ready_when_the_group_fills_and_empties() {
    let Some(sandbox) = Sandbox::new("events") else { return };
    let group = sandbox.group();
    let events = group.events().unwrap();
    assert!(!events.is_populated().unwrap());
    assert!(!is_ready(&events, 0), "nothing has changed since it was opened");

    let process = Process::start(group.path(), "exec sleep 60");
    assert!(is_ready(&events, 20_000));
    assert!(is_ready(&events, 0), "until it is read");
    assert!(events.is_populated().unwrap());
    assert!(!is_ready(&events, 50), "once it is read");

    group.kill().unwrap();
    assert!(is_ready(&events, 20_000));
    assert!(!events.is_populated().unwrap());
    drop(process);
    group.remove().unwrap();
    assert!(!events.is_populated().unwrap(), "gone is empty");
}

/// Who has the exit status still to be fetched keeps no group from being removed.
#[test]
fn a_zombie_does_not_populate() {
    let Some(sandbox) = Sandbox::new("zombie") else { return };
    let group = sandbox.group();
    let process = Process::start(group.path(), "exit 0");
    let id = process.0.id();
    wait_until(|| state(id) == Some('Z'));
    wait_until(|| !group.is_populated().unwrap());
    assert!(group.processes().unwrap().is_empty());
    group.remove().unwrap();
    assert_eq!(state(id), Some('Z'), "it is still there");
}

#[test]
fn nested_groups_are_killed_and_removed() {
    let Some(sandbox) = Sandbox::new("nested") else { return };
    let group = sandbox.group();
    let nested = group.path().join("a/b");
    fs::create_dir_all(&nested).unwrap();
    fs::create_dir(group.path().join("empty")).unwrap();
    let _process = Process::start(&nested, "exec sleep 60");
    wait_until(|| group.processes().unwrap().len() == 1);
    assert!(group.is_populated().unwrap());
    assert!(group.remove().unwrap_err().is_busy());
    assert!(group.path().join("empty").exists(), "a group in use is left as it is");

    group.kill().unwrap();
    wait_until(|| !group.is_populated().unwrap());
    group.remove().unwrap();
    assert!(!group.path().exists());
}

/// It left the session, lost its parent and cleared its environment: only a cgroup finds it.
#[test]
fn a_daemon_cannot_leave() {
    let Some(sandbox) = Sandbox::new("daemon") else { return };
    let group = sandbox.group();
    let script = "(setsid env -i /bin/sh -c 'sleep 60 & exec sleep 60' &); exit 0";
    let mut process = Process::start(group.path(), script);
    process.0.wait().unwrap();
    wait_until(|| group.processes().unwrap().len() == 2);
    let orphans = group.processes().unwrap();
    group.kill().unwrap();
    wait_until(|| !group.is_populated().unwrap());
    wait_until(|| orphans.iter().all(|&pid| matches!(state(pid), None | Some('Z'))));
    group.remove().unwrap();
}

#[test]
fn a_fork_bomb_is_killed_by_one_write() {
    let Some(sandbox) = Sandbox::new("bomb") else { return };
    let group = sandbox.group();
    fs::write(sandbox.path.join("cgroup.max.descendants"), "1").unwrap();
    // Bounded, in case the kill does not work: each shell starts one more and ends, 20,000 times.
    let script = "f() { [ $1 -gt 0 ] && { f $(($1 - 1)) & }; }; f 20000; f 20000; exit 0";
    let _process = Process::start(group.path(), script);
    wait_until(|| group.is_populated().unwrap());
    thread::sleep(Duration::from_millis(50));
    assert!(group.is_populated().unwrap(), "it goes on");
    group.kill().unwrap();
    wait_until(|| !group.is_populated().unwrap());
    thread::sleep(Duration::from_millis(50));
    assert!(!group.is_populated().unwrap());
}

/// The kernel sends SIGKILL to the first thread alone, which has ended. Should a later one mend
/// that, this test still passes.
#[test]
fn a_process_without_its_first_thread_needs_a_signal_of_its_own() {
    let Some(sandbox) = Sandbox::new("leader") else { return };
    let script = "import ctypes, threading, time\n\
                  threading.Thread(target=time.sleep, args=[60]).start()\n\
                  ctypes.CDLL(None).pthread_exit(None)";
    let group = sandbox.group();
    let process = Process::start(group.path(), &format!("exec python3 -c '{script}'"));
    let pid = process.0.id();
    let is_zombie = || state(pid) == Some('Z');
    wait_until(|| is_zombie() || state(pid).is_none());
    if !group.is_populated().unwrap() {
        return eprintln!("LEFT OUT: leader, since there is no python3");
    }
    assert_eq!(group.processes().unwrap(), [pid], "a zombie with threads is listed");

    group.kill().unwrap();
    thread::sleep(Duration::from_millis(100));
    let reached = !group.is_populated().unwrap();
    eprintln!("cgroup.kill reaches a process without its first thread: {reached}");
    for pid in group.processes().unwrap() {
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    }
    wait_until(|| !group.is_populated().unwrap());
    group.remove().unwrap();
}

#[test]
fn a_stale_group_is_made_anew() {
    let Some(sandbox) = Sandbox::new("stale") else { return };
    let group = sandbox.group();
    fs::create_dir(group.path().join("left")).unwrap();
    assert_eq!(list(&sandbox.path).unwrap(), ["1"]);
    let again = sandbox.group();
    assert_eq!(again, group);
    assert!(!group.path().join("left").exists());
    assert_eq!(Group::open(&sandbox.path, "1").unwrap(), Some(group));
    assert_eq!(again.oom_kills().unwrap().unwrap_or(0), 0);
}

#[test]
fn the_directory_is_a_path_descriptor() {
    let Some(sandbox) = Sandbox::new("directory") else { return };
    let directory = sandbox.group().directory().unwrap();
    let info = format!("/proc/self/fdinfo/{}", directory.as_raw_fd());
    let info = fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
    for flag in [libc::O_PATH, libc::O_DIRECTORY, libc::O_CLOEXEC] {
        assert_eq!(flags & flag, flag);
    }
}

/// systemd removes empty groups below a unit whose main process ended.
#[test]
fn a_subtree_that_was_removed_is_made_again() {
    let Some(sandbox) = Sandbox::new("again") else { return };
    let top = sandbox.path.clone();
    let mut subtree = Subtree::prepare(top, "workers", Placement::Shared, Role::Agent).unwrap();
    fs::remove_dir(subtree.workers()).unwrap();
    let group = subtree.create("1").unwrap();
    assert_eq!(subtree.list().unwrap(), ["1"]);
    assert!(subtree.remove().unwrap_err().is_busy());
    group.remove().unwrap();
    subtree.remove().unwrap();
    subtree.remove().unwrap();
}

/// An agent that was killed during its probe left a group; one that lives is still at it.
#[test]
fn probes_of_the_dead_are_removed() {
    let Some(sandbox) = Sandbox::new("probes") else { return };
    let workers = sandbox.path.join("workers");
    // Above the kernel's greatest possible pid.
    let dead = workers.join(format!("probe.{}", 1 << 30));
    let alive = workers.join("probe.1");
    fs::create_dir_all(&dead).unwrap();
    fs::create_dir(&alive).unwrap();
    let top = sandbox.path.clone();
    Subtree::prepare(top, "workers", Placement::Shared, Role::Agent).unwrap();
    assert!(!dead.exists());
    assert!(alive.exists());
}

/// What a process finds that starts in this cgroup: the words of [`tells_what_it_found`].
fn found_in(cgroup: &Path, role: &str, before: &str) -> String {
    fs::create_dir_all(cgroup).unwrap();
    let script = format!(
        "echo $$ >'{}/cgroup.procs' || exit 99; {before} exec \"$0\" --exact --ignored --nocapture \
         runtime::cgroup::tests::kernel::tells_what_it_found",
        cgroup.display()
    );
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("CG_TEST_ROLE", role)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.lines().find_map(|line| line.split_once("FOUND: "));
    found.unwrap_or_else(|| panic!("it found nothing: {text}")).1.to_owned()
}

/// Not a test: what [`found_in`] runs.
#[test]
#[ignore = "it moves its own process"]
fn tells_what_it_found() {
    let role = match std::env::var("CG_TEST_ROLE").as_deref() {
        Ok("agent") => Role::Agent,
        Ok("shim") => Role::Shim,
        // Somebody runs all ignored tests.
        _ => return,
    };
    let found = discover(&Host::default(), Mode::Auto, "n", role).unwrap();
    let Discovery::Ready(subtree) = found else { panic!("{found:?}") };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let top = subtree.top().file_name().unwrap().to_str().unwrap();
    let leaf = Path::new(own).file_name().unwrap().to_str().unwrap();
    println!("FOUND: {:?} top={top} process={leaf}", subtree.placement());
}

#[test]
fn a_unit_without_a_subgroup_is_shared() {
    let Some(sandbox) = Sandbox::new("shared") else { return };
    let unit = sandbox.path.join("a.service");
    let found = found_in(&unit, "agent", "");
    assert_eq!(found, "Shared top=a.service process=a.service");
    assert_eq!(list(&unit).unwrap(), ["arroyo-node-n"]);
}

#[test]
fn agent_and_shim_take_their_leaves_of_a_unit() {
    let Some(sandbox) = Sandbox::new("leaves") else { return };
    let unit = sandbox.path.join("a.service");
    let agent = unit.join("agent");
    assert_eq!(found_in(&agent, "agent", ""), "Divided top=a.service process=agent");
    // Started by the agent, and again by a later one beside the first shim.
    assert_eq!(found_in(&agent, "shim", ""), "Divided top=a.service process=shim");
    assert_eq!(found_in(&agent, "agent", ""), "Divided top=a.service process=agent");
    assert_eq!(list(&unit).unwrap(), ["agent", "arroyo-node-n", "shim"]);
}

#[test]
fn a_scope_is_divided_unless_it_has_strangers() {
    let Some(sandbox) = Sandbox::new("scope") else { return };
    let scope = sandbox.path.join("a.scope");
    assert_eq!(found_in(&scope, "agent", ""), "Divided top=a.scope process=agent");
    let found = found_in(&scope, "agent", "sleep 60 >/dev/null 2>&1 & ");
    assert_eq!(found, "Shared top=a.scope process=a.scope");
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
