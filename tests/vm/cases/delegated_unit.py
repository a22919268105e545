"""The documented systemd unit, with a controller and its jobs.

The agent runs as the unit of docs/migrating.md: not root, `Delegate=yes`, `KillMode=process`.
Workers are started by the controller and by hand, and stopped gently and by force; a forced stop
ends what has left its session and lost its parent. An upgrade (SIGUSR1, and systemd starts the
unit again) disturbs no worker; `systemctl restart` stops them all, and the controller starts its
jobs anew.

With cgroups, each worker and all that it starts is in a cgroup of its own, named by its id, below
the unit's. Agent and shim are in none of these. The cgroup of a worker that has ended is gone. And
systemd can start the unit again while workers live: systemd 252 cannot if the unit's cgroup passes
controllers on (status 219/CGROUP).
"""

UNIT_CGROUP = "/system.slice/arroyo-node.service"
STUBBORN = {
    "WORKER_IGNORE_SIGTERM": 1,
    "WORKER_CHILDREN": "group,setsid,double-fork,daemon",
    "WORKER_CHILDREN_IGNORE_SIGTERM": 1,
}


def run(trial):
    node = trial.node(jobs={"orders": 2, "clicks": 1})
    trial.wait_until("the controller's jobs run", lambda: jobs(node) == ["clicks", "orders"])
    expect_user(trial, node)

    gentle = node.start("gentle")
    ended = node.stop(gentle)
    trial.expect(ended["exit"] == {"how": "code", "code": 0}, "a gentle stop lets it exit with 0")

    stubborn = node.start("stubborn", **STUBBORN)
    trial.wait_until("its four descendants run", lambda: len(node.processes_of(stubborn)) == 5)
    expect_cgroups(trial, node)
    ended = node.stop(stubborn, force=True)
    trial.expect(ended["exit"]["how"] == "signal", "a forced stop kills what ignores SIGTERM")
    trial.expect(not node.processes_of(stubborn), "and all that it started")
    expect_no_cgroup(trial, node, stubborn)

    upgrade(trial, node)
    restart(trial, node)


def jobs(node):
    return sorted(row["job_id"] for row in node.alive().values() if row["state"] == "running")


def expect_user(trial, node):
    ours = [p for p in node.processes() if p["cgroup"].startswith(UNIT_CGROUP)]
    trial.expect(len(ours) >= 4, "agent, shim and workers are in the unit's cgroup")
    trial.expect({p["user"] for p in ours} == {"arroyo"}, "all of them belong to the unit's user")


def expect_cgroups(trial, node):
    if not trial.knows_cgroups():
        return trial.leave_out("cgroups of workers")
    node.machine.run(f"systemd-cgls --no-pager {UNIT_CGROUP}", check=False)
    everyone = node.processes()
    misplaced = [process for process in everyone if worker_of_cgroup(process) != process["worker"]]
    told = "each worker's processes, and no others, are in its cgroup"
    trial.expect(not misplaced, told, misplaced)


def worker_of_cgroup(process):
    name = process["cgroup"].rpartition("/")[2]
    return name if name.isdigit() else None


def expect_no_cgroup(trial, node, worker):
    if trial.knows_cgroups():
        left = lambda: node.machine.run(f"find /sys/fs/cgroup{UNIT_CGROUP} -name {worker}")
        trial.wait_until("the cgroup of a worker that has ended is gone", lambda: not left())


def upgrade(trial, node):
    before, agent, shim = node.alive(), node.pid(), node.shim()
    node.machine.run("systemctl kill --kill-whom=main --signal=SIGUSR1 arroyo-node")
    trial.wait_until("systemd has started another agent", lambda: node.pid() not in (0, agent))
    node.wait_until_registered()
    trial.expect(node.shim() == shim, "the shim is the same")
    trial.expect(pids(node.alive()) == pids(before), "an upgrade leaves the workers as they were")
    trial.expect(not set(node.reports()) & set(before), "and none of them is reported")
    late = node.start("after-the-upgrade")
    expect_cgroups(trial, node)
    trial.expect(node.stop(late)["exit"] == {"how": "code", "code": 0}, "the new agent works")


def restart(trial, node):
    before = node.alive()
    node.machine.run("systemctl restart arroyo-node")
    node.wait_until_registered()
    reports = node.reports()
    trial.expect({reports[worker] for worker in before} == {1}, "each is reported once", reports)
    rows = node.workers()
    codes = [rows[worker]["exit"] for worker in before]
    gently = all(exit == {"how": "code", "code": 0} for exit in codes)
    trial.expect(gently, "each ended gently", codes)
    trial.wait_until("the controller's jobs run again", lambda: jobs(node) == ["clicks", "orders"])


def pids(rows):
    return {worker: (row["pid"], row["state"]) for worker, row in rows.items()}
