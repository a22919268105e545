"""The power is cut under load, at a random moment, many times (`--cuts`) on the same disk.

What was not flushed is lost (`harness/disks.py`). Now and then the power is cut once more while
the agent recovers. Each time the journal opens, whole and not set aside. The workers that were
there when the disk was last flushed are told as lost, once; nothing is known alive, all slots are
free, and the agent takes new work. What was acknowledged and flushed before an earlier cut is not
reported again, and no id is given out twice.
"""

from harness.node import STATE

LOST = {"how": "lost"}
CODE_3 = {"how": "code", "code": 3}

# How often a cut is followed by another during the recovery.
AGAIN = 0.25


def run(trial):
    node = trial.node()
    history = History()
    for cut in range(1, trial.cuts + 1):
        kept = [node.start(f"kept-{cut}-{n}", slots=n) for n in range(1, 4)]
        done = node.start(f"done-{cut}", WORKER_EXIT_AFTER="100ms:3")
        node.wait_for_end(done)
        history.expect_new_ids(trial, [*kept, done])
        node.machine.run("sync")
        node.start_load(trial.random.getrandbits(32))
        trial.pause(trial.random.uniform(1, 15))
        trial.log.did(f"cut {cut} of {trial.cuts}")
        cut_power(node)
        again = trial.random.random() < AGAIN
        if again:
            trial.pause(trial.random.uniform(0, 8))
            cut_power(node)
        node.wait_until_registered()
        expect_whole(trial, node)
        node.wait_until_nothing_is_owed()
        expect_books(trial, node, kept, done)
        # The boot that ended so soon may have reported them already.
        reports = node.reports(boot=0)
        times = {reports[worker] for worker in kept}
        once = times == {1} or again and times <= {0, 1}
        trial.expect(once, "each loss is reported once", reports)
        history.add([done])
        history.expect_not_again(trial, node)
        history.add(kept)


def cut_power(node):
    node.machine.cut_power()
    node.machine.boot()


class History:
    """The workers whose end was acknowledged and flushed before the cut."""

    def __init__(self):
        self._workers = set()

    def add(self, workers):
        self._workers |= set(workers)

    def expect_new_ids(self, trial, workers):
        trial.expect(not self._workers & set(workers), "the ids are new")

    def expect_not_again(self, trial, node):
        again = self._workers & set(node.reports(boot=0))
        trial.expect(not again, f"none of the {len(self._workers)} before is reported again")
        gone = self._workers - set(node.workers())
        trial.expect(not gone, "and all of them are known")


def expect_whole(trial, node):
    check = f"runuser -u arroyo -- sqlite3 {STATE}/journal.sqlite 'PRAGMA integrity_check'"
    trial.expect(node.machine.run(check).strip() == "ok", "the journal is whole")
    aside = [line for line in node.journal(boot=0) if "set aside" in line]
    trial.expect(not aside, "nothing was set aside", aside)
    node.machine.run(f"ls -l {STATE}")


def expect_books(trial, node, kept, done):
    rows = node.workers()
    lost = all(rows[worker]["exit"] == LOST for worker in kept)
    trial.expect(lost, "the workers are told as lost")
    trial.expect(rows[done]["exit"] == CODE_3, "an end from before is told as it was")
    trial.expect(not any(row["alive"] for row in rows.values()), "nothing is known alive")
    status = node.status()
    trial.expect(status["free_slots"] == status["task_slots"], "all slots are free")
    complaints = [*status["notices"], status["journal_error"], status["program_error"]]
    trial.expect(not any(complaints), "the agent has no complaint", complaints)
