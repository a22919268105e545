"""The shim is stopped (SIGSTOP) while it is to kill a worker.

The agent kills the worker in its place, with all that it started. Later it gives the shim up and
starts another; the other workers live on, and new ones can be started.
"""

STUBBORN = {
    "WORKER_IGNORE_SIGTERM": 1,
    "WORKER_CHILDREN": "setsid,daemon",
    "WORKER_CHILDREN_IGNORE_SIGTERM": 1,
}


def run(trial):
    node = trial.node()
    keeper = node.start("keep")
    before = node.workers()[keeper]
    stubborn = node.start("stubborn", **STUBBORN)
    trial.wait_until("its descendants run", lambda: len(node.processes_of(stubborn)) == 3)
    shim = node.shim()

    # kill-after is 3 s: the shim is stopped between SIGTERM and SIGKILL.
    stop = f"systemd-run --quiet arroyo-node stop {stubborn} --force"
    node.machine.run(f"{stop}; sleep 1; kill -STOP {shim}")
    trial.wait_until("nothing of the worker is alive", lambda: not node.processes_of(stubborn))
    exit = node.wait_for_end(stubborn)["exit"]
    trial.expect(exit["how"] in ("signal", "unknown"), "its end is told as it was, or as unknown")

    late = node.start("late")
    trial.expect(node.shim() != shim, "another shim has taken its place")
    row = node.workers()[keeper]
    same = (row["state"], row["pid"]) == ("running", before["pid"])
    trial.expect(same, "the other worker lives on")
    trial.expect(node.stop(late)["exit"] == {"how": "code", "code": 0}, "the new shim works")
