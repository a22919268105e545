"""What the cases that kill share: workers that go on, a load, rounds of kills, and the books.

    keepers   four workers that nobody stops: the same processes after every kill
    load      workers that come and go meanwhile, and a ledger of them: see `guest/load.py`

After every kill, each worker that has a process is known. In the end each worker that the load was
answered with has ended as it was to, and its end was reported.
"""

from collections import Counter

ROUNDS = 6

# Reports that the killed agents may have had under way: `reports.in-flight` is 8.
UNDER_WAY = 8 * ROUNDS

UNKNOWN = {"how": "unknown"}


class Kills:
    def __init__(self, trial):
        self.trial = trial
        self.node = trial.node()
        self._keepers = [self.node.start(f"keep-{n}", slots=n) for n in range(1, 5)]
        self._before = self._pids()
        self.node.start_load(trial.random.getrandbits(32))

    def rounds(self, kill):
        """Has `kill` kill again and again. It returns when the agent is registered again."""
        for number in range(1, ROUNDS + 1):
            self.trial.pause(self.trial.random.uniform(2, 8))
            self.trial.log.did(f"round {number}")
            kill(self.node)
            self._expect_all_known()

    def close(self, exits, keepers_exit, repeats):
        """Ends all workers and holds the books against what they were to do.

        `exits(code)`    what may be told of a worker that exits by itself with this code
        `keepers_exit`   what must be told of the keepers, which exit with 0
        `repeats`        how many reports may be repeated
        """
        facts = self.node.stop_load()
        self._expect_going_on(facts)
        self.trial.wait_until("nothing exits by itself any more", lambda: not self._exiting(facts))
        for worker in self._keepers:
            exit = self.node.stop(worker)["exit"]
            told = f"a keeper's end is told as {keepers_exit}"
            self.trial.expect(exit == keepers_exit, told, exit)
        self.node.stop_all()
        self._expect_ends(facts, exits)
        self._expect_reports(facts, repeats)
        status = self.node.status()
        free = status["free_slots"] == status["task_slots"]
        self.trial.expect(free, "all slots are free")

    def _pids(self):
        rows = self.node.workers()
        return {worker: (rows[worker]["pid"], rows[worker]["state"]) for worker in self._keepers}

    def _expect_all_known(self):
        before = self._live()
        rows = self.node.workers()
        live = before & self._live()
        unknown = {worker for worker in live if worker not in rows or not rows[worker]["alive"]}
        self.trial.expect(not unknown, f"all {len(live)} workers with processes are known", unknown)
        self.trial.expect(self._pids() == self._before, "the keepers run as before")

    def _live(self):
        return {process["worker"] for process in self.node.processes() if process["worker"]}

    def _expect_going_on(self, facts):
        rows = self.node.workers()
        going_on = [
            worker for worker, fact in facts.items()
            if fact["plan"] == "go on" and not fact["stopping"]
        ]  # fmt: skip
        states = {worker: rows[worker]["state"] for worker in going_on}
        running = set(states.values()) <= {"running"}
        self.trial.expect(running, f"the load's {len(states)} workers that go on run", states)

    def _exiting(self, facts):
        exiting = {worker for worker, fact in facts.items() if fact["plan"] != "go on"}
        return exiting & set(self.node.alive())

    def _expect_ends(self, facts, exits):
        rows = self.node.workers()
        lost = set(facts) - set(rows)
        self.trial.expect(not lost, f"all {len(facts)} workers of the load are known", lost)
        wrong = {}
        for worker, fact in facts.items():
            how, _, code = fact["plan"].partition(" ")
            if how == "code" and rows[worker]["exit"] not in exits(int(code)):
                wrong[worker] = (fact["plan"], rows[worker]["exit"])
        self.trial.expect(not wrong, "those that exit by themselves are told so", wrong)

    def _expect_reports(self, facts, repeats):
        reports = self.node.reports()
        never = [worker for worker in [*facts, *self._keepers] if not reports[worker]]
        self.trial.expect(not never, "every end was reported", never)
        # A report that was not answered in time has to be repeated; the guest is slow.
        again = reports - Counter(dict.fromkeys(reports, 1)) - self.node.failed_reports()
        few = again.total() <= repeats
        told = f"at most {repeats} of {len(reports)} reports were repeated for no other reason"
        self.trial.expect(few, told, again)


def code(number):
    """An exit with this code, as the agent shows it."""
    return {"how": "code", "code": number}


def kill_agent(node, also=()):
    """Kills the agent, and others with it, and waits until systemd has started another."""
    agent = node.pid()
    node.machine.run(f"kill -9 {' '.join(str(pid) for pid in [agent, *also])}")
    node.wait_until_registered()
    assert node.pid() != agent, "systemd has started another agent"
