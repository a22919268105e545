"""Limits of the kernel hold, and a start that one of them forbids loses nothing.

The unit's TasksMax is set so low that a fork fails: the start is refused with the kernel's
reason, holds no slots and owes no report; the workers that are there go on; with the limit gone,
workers start again. pids.max of a worker's own cgroup, if that has the controller, holds for that
worker and for no other.
"""

import json

CGROUP = "/sys/fs/cgroup/system.slice/arroyo-node.service"

# Nine forks by a child of the worker, so that the first that fails does not end the worker.
FORKS = """
until [ -e /run/go ]; do sleep 0.2; done
(for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done)
exec sleep 1000
"""


def run(trial):
    node = trial.node()
    no_more_tasks(trial, node)
    no_more_tasks_in_a_worker(trial, node)


def no_more_tasks(trial, node):
    keepers = {node.start(f"keep-{n}") for n in range(2)}
    tasks = int(node.machine.run(f"cat {CGROUP}/pids.current"))
    set_tasks_max(node, tasks + 1)
    started, refusal = start_until_refused(node)
    trial.expect(refusal is not None, "a start is refused")
    told = "os error 11" in refusal.stderr or "temporarily unavailable" in refusal.stderr
    trial.expect(told, "with the kernel's reason", refusal.stderr)

    status = node.status()
    trial.expect(set(node.alive()) == keepers | started, "the workers that were there go on")
    held = status["task_slots"] - status["free_slots"]
    trial.expect(held == len(keepers | started), "the refused start holds no slots")
    trial.expect(status["reports_owed"] == 0, "and no report is owed for it")
    trial.expect(status["registered"], "the agent is in touch with its controller")

    set_tasks_max(node, "infinity")
    node.start("late")
    node.stop_all()


def set_tasks_max(node, tasks):
    node.machine.run(f"systemctl set-property --runtime arroyo-node TasksMax={tasks}")


def start_until_refused(node):
    started = set()
    for number in range(5):
        result = node.try_start(f"more-{number}")
        if result.status != 0:
            return started, result
        started.add(json.loads(result.stdout)["worker_id"])
    return started, None


def no_more_tasks_in_a_worker(trial, node):
    other = node.start("other")
    forking = node.start("forking", WORKER_SCRIPT=FORKS)
    limit = node.control_file(forking, "pids.max")
    if not limit:
        return trial.leave_out("pids.max of a worker, which has none of its own")
    events = node.control_file(forking, "pids.events")
    node.machine.run(f"echo 5 > {limit} && touch /run/go")
    forbidden = lambda: node.machine.run(f"cat {events}").split() != ["max", "0"]
    trial.wait_until("the kernel forbids a fork", forbidden)
    trial.expect(len(node.processes_of(forking)) <= 5, "the worker has no more than 5 processes")
    trial.expect(set(node.alive()) == {other, forking}, "both workers go on")
    node.stop(forking, force=True)
    trial.expect(not node.processes_of(forking), "a forced stop ends all its processes")
