"""Starts and stops workers for ever, and writes down what it was answered.

    load.py SEED LEDGER

Each line of LEDGER is one fact:

    {"worker": "1234", "plan": "code 7"}      a start was answered with this worker
    {"worker": "1234", "stopping": "force"}   the worker is about to be stopped

Plans: "go on" until it is stopped, or "code N" after a second or two. At most 12 workers go on at
a time. Failed calls are passed over: the agent may be away.
"""

import json
import random
import subprocess
import sys
import threading

MAX_GOING_ON = 12
THREADS = 3
UNREACHABLE = 3


def call(*words):
    """Returns the command's exit status, and its answer if it has one."""
    command = ["arroyo-node", *words, "--json", "--timeout", "60s"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout or "null")


class Load:
    def __init__(self, seed, ledger):
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.going_on = []
        self.ledger = open(ledger, "a", buffering=1)

    def write(self, **fact):
        with self.lock:
            self.ledger.write(json.dumps(fact) + "\n")

    def start(self, number):
        code = self.random.choice([None, None, 0, 7])
        plan = "go on" if code is None else f"code {code}"
        job = f"load-{number}-{self.random.getrandbits(32)}"
        after = f"WORKER_EXIT_AFTER={self.random.randint(1, 2)}s:{code}"
        _, answer = call("start", "--job", job, *([] if code is None else ["--env", after]))
        if answer is None:
            return
        self.write(worker=answer["worker_id"], plan=plan)
        if code is None:
            self.going_on.append(answer["worker_id"])

    def stop(self):
        with self.lock:
            if not self.going_on:
                return
            worker = self.going_on.pop(self.random.randrange(len(self.going_on)))
        how = self.random.choice(["force", "gentle"])
        self.write(worker=worker, stopping=how)
        status, _ = call("stop", worker, *(["--force"] if how == "force" else []))
        if status == UNREACHABLE:
            self.going_on.append(worker)

    def run(self, number):
        while True:
            full = len(self.going_on) >= MAX_GOING_ON - THREADS
            if full or (self.going_on and self.random.random() < 0.4):
                self.stop()
            else:
                self.start(number)


def main():
    load = Load(int(sys.argv[1]), sys.argv[2])
    for number in range(THREADS):
        threading.Thread(target=load.run, args=[number]).start()


main()
