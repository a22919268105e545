"""The machine is rebooted: at once, as if its kernel had crashed, and in order.

After a crash every worker is told as lost, once, and its slots are free. A reboot in order is a
SIGTERM to the agent: the workers are stopped gently, and nothing is lost.
"""

LOST = {"how": "lost"}


def run(trial):
    node = trial.node()
    crash(trial, node)
    in_order(trial, node)


def crash(trial, node):
    workers = [node.start(f"lost-{n}", slots=n) for n in range(1, 4)]
    node.machine.reboot("sync; echo b > /proc/sysrq-trigger; sleep 60")
    node.wait_until_registered()
    rows = {worker: node.wait_for_end(worker) for worker in workers}
    trial.expect(all(row["exit"] == LOST for row in rows.values()), "each worker is told as lost")
    lost = [line for line in node.journal(boot=0) if "worker lost" in line]
    trial.expect(len(lost) == len(workers), "the log says so of each")
    reports = node.reports(boot=0)
    trial.expect({reports[worker] for worker in workers} == {1}, "each was reported once")
    status = node.status()
    trial.expect(status["free_slots"] == status["task_slots"], "all slots are free")
    late = node.start("late")
    trial.expect(late not in workers, "a new worker has a new id")
    node.stop(late)


def in_order(trial, node):
    workers = [node.start(f"stopped-{n}") for n in range(2)]
    node.machine.reboot("systemctl reboot; sleep 300")
    node.wait_until_registered()
    rows = node.workers()
    exits = [rows[worker]["exit"] for worker in workers]
    trial.expect(all(exit == {"how": "code", "code": 0} for exit in exits), "each ended gently")
    node.wait_until_nothing_is_owed()
    reports = node.reports()
    trial.expect({reports[worker] for worker in workers} == {1}, "each was reported once")
