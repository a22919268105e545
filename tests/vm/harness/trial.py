"""What a case is given: a machine with the agent in it, and the words to say what must be so."""

import random
import time

from .disks import Disks
from .host import run
from .machine import PATIENCE, Machine
from .node import Node


class Broken(Exception):
    """Something that must be so is not."""


class Trial:
    """One case's run.

    `log`       to say what is going on
    `cuts`      how often the power is cut, for the case that does
    `random`    seeded, and the seed is in the log
    """

    def __init__(self, places, binary, log, cuts, seed):
        self.log = log
        self.cuts = cuts
        self.random = random.Random(seed)
        self.left_out = []
        self._places = places
        self._binary = binary
        self._machine = None

    def node(self, jobs=None):
        """Boots a machine and waits until its agent is registered.

        `jobs` are the controller's, with their slots.
        """
        disks = Disks(self._places.scratch, self._places.image)
        disks.fill_payload({"arroyo-node": self._binary, **self._places.guest_files()})
        self._machine = Machine(disks, self.log)
        self._machine.boot()
        node = Node(self._machine, self)
        node.install(jobs or {})
        return node

    def knows_cgroups(self):
        """Whether this agent gives each worker a cgroup."""
        return "--cgroup" in run(self._binary, "node", "--help")

    def expect(self, so, what, but=""):
        """Ends the case unless it is so; `but` says what is instead."""
        if not so:
            raise Broken(f"not so: {what} {but}")
        self.log.did(f"ok: {what}")

    def wait_until(self, what, found):
        """Calls `found` until what it returns is true, and returns that."""
        until = time.monotonic() + PATIENCE
        while True:
            result = found()
            if result:
                self.log.did(f"ok: {what}")
                return result
            if time.monotonic() > until:
                raise Broken(f"not so within {PATIENCE} s: {what}")
            time.sleep(0.3)

    def pause(self, seconds):
        """Lets what goes on in the guest go on for a while."""
        self.log.did(f"{seconds:.1f} s go by")
        time.sleep(seconds)

    def leave_out(self, what):
        """Notes a part of the case that this agent cannot pass yet."""
        self.log.did(f"left out: {what}")
        if what not in self.left_out:
            self.left_out.append(what)

    def end(self):
        if self._machine:
            self._machine.discard()
