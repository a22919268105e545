"""The agent and its controller, as two units of the guest.

Workers are named by their ids, as text; a row is what `arroyo-node ps --json` shows of one.
"""

import json
import re
import shlex
from collections import Counter

from .machine import CommandFailed

UNIT = "arroyo-node"
CONTROLLER = "arroyo-controller"
STATE = "/var/lib/arroyo-node"
LEDGER = "/var/tmp/load.jsonl"

# The guest is slow.
ASK = "--json --timeout 90s"
WAIT = "--wait 90s --timeout 90s"


class Node:
    def __init__(self, machine, trial):
        self.machine = machine
        self._trial = trial

    def install(self, jobs):
        """Installs both units, starts them, and waits until the agent is registered."""
        self.machine.run("/opt/guest/install")
        words = " ".join(f"--job {name}={slots}" for name, slots in jobs.items())
        drop_in = f"/etc/systemd/system/{CONTROLLER}.service.d"
        self.machine.run(
            f"mkdir {drop_in} && printf '[Service]\\nEnvironment=\"JOBS=%s\"\\n' "
            f"{shlex.quote(words)} > {drop_in}/jobs.conf && systemctl daemon-reload && "
            f"systemctl start {CONTROLLER} {UNIT}"
        )
        self.wait_until_registered()

    def wait_until_registered(self):
        """Waits until the agent serves and the controller knows it."""

        def registered():
            try:
                return self.status()["registered"]
            except CommandFailed:
                return False

        self._trial.wait_until("the agent is registered", registered)

    # What it says.

    def status(self):
        status = json.loads(self.machine.run(f"arroyo-node status {ASK}", quiet=True))
        self.machine.log.did(json.dumps(status))
        return status

    def workers(self):
        """Rows of all workers that are not forgotten, by id."""
        rows = json.loads(self.machine.run(f"arroyo-node ps --all {ASK}", quiet=True))
        for row in rows:
            exit = json.dumps(row["exit"]) if row["exit"] else ""
            self.machine.log.did(f"{row['worker_id']} {row['job_id']} {row['state']} {exit}")
        return {row["worker_id"]: row for row in rows}

    def alive(self):
        """Rows of those that live, by id."""
        return {worker: row for worker, row in self.workers().items() if row["alive"]}

    def journal(self, unit=UNIT, boot="all"):
        """What a unit has printed since the disk was new; with boot=0, since the last boot."""
        command = f"journalctl --no-pager -o cat -u {unit} -b {boot}"
        return self.machine.run(command, quiet=True).split("\n")

    def reports(self, boot="all"):
        """How often the controller was told of each worker's end."""
        lines = self.journal(CONTROLLER, boot)
        told = [line for line in lines if "has ended: " in line or "freed no slots" in line]
        return Counter(re.search(r"worker[ =](\d+)", line)[1] for line in told)

    def failed_reports(self):
        """How often the agent got no answer to a report of each worker's end."""
        failed = [line for line in self.journal() if "end not acknowledged" in line]
        return Counter(re.search(r"worker_id=(\d+)", line)[1] for line in failed)

    # What it is told.

    def try_start(self, job, slots=1, **env):
        """Asks for a worker, and returns how that ended."""
        words = " ".join(shlex.quote(f"--env={name}={value}") for name, value in env.items())
        command = f"arroyo-node start {ASK} --job {job} --slots {slots} {words}"
        return self.machine.run(command, check=False)

    def start(self, job, slots=1, **env):
        """Starts a worker and returns its id."""
        result = self.try_start(job, slots, **env)
        self._trial.expect(result.status == 0, f"a worker for {job} is started")
        return json.loads(result.stdout)["worker_id"]

    def stop(self, worker, force=False):
        """Stops a worker, waits for its end, and returns its row."""
        how = "--force" if force else ""
        self.machine.run(f"arroyo-node stop {worker} {how} {WAIT}")
        return self.workers()[worker]

    def stop_all(self):
        """Stops all that live by force, and waits until nothing is owed."""
        workers = " ".join(self.alive())
        stop = f"arroyo-node stop $worker --force {WAIT}"
        self.machine.run(f"for worker in {workers}; do {stop}; done")
        self.wait_until_nothing_is_owed()

    def wait_until_nothing_is_owed(self):
        owed = lambda: self.status()["reports_owed"]
        self._trial.wait_until("no report is owed", lambda: owed() == 0)

    def wait_for_end(self, worker):
        """Waits until a worker's end is acknowledged by the controller, and returns its row."""

        def ended():
            row = self.workers()[worker]
            return row if row["state"] == "reported" else None

        return self._trial.wait_until(f"the end of worker {worker} is reported", ended)

    # Its processes.

    def pid(self):
        return int(self.machine.run(f"systemctl show --property MainPID --value {UNIT}"))

    def shim(self):
        """The shim's pid."""
        [shim] = [p["pid"] for p in self.processes() if p["words"][1:2] == ["shim"]]
        return shim

    def processes(self):
        """All processes of the guest: see `guest/processes.py`."""
        return json.loads(self.machine.run("python3 /opt/guest/processes.py", quiet=True))

    def processes_of(self, worker):
        return [process for process in self.processes() if process["worker"] == worker]

    def control_file(self, worker, name):
        """The path of a file like `memory.max` in the worker's own cgroup, or None.

        There is none without a cgroup of its own, or if that lacks the controller.
        """
        cgroup = self.processes_of(worker)[0]["cgroup"]
        path = f"/sys/fs/cgroup{cgroup}/{name}"
        own = cgroup.endswith(f"/{worker}")
        exists = own and self.machine.run(f"test -e {path}", check=False).status == 0
        return path if exists else None

    # The load: see `guest/load.py`.

    def start_load(self, seed):
        self.machine.run(
            f"systemd-run --quiet --unit load python3 /opt/guest/load.py {seed} {LEDGER}"
        )

    def stop_load(self):
        """Ends it, and returns its facts by worker: its plan, and how it was stopped if it was.

        A start whose answer did not arrive any more is in none of them.
        """
        self.machine.run("systemctl stop load")
        facts = {}
        for line in self.machine.run(f"cat {LEDGER}", quiet=True).split("\n")[:-1]:
            fact = json.loads(line)
            facts.setdefault(fact["worker"], {"stopping": None}).update(fact)
        return facts
