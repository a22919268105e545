"""Prints every process that has a command line, as JSON: one object each.

    {"pid": 311, "parent": 1, "user": "arroyo", "words": ["arroyo-node", "shim", …],
     "cgroup": "/system.slice/arroyo-node.service", "worker": "1234" or null}

`worker` is what the environment says, which a process cannot get rid of by leaving its session.
"""

import json
import os
import pwd


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read().decode(errors="replace")


def process(pid):
    words = read(pid, "cmdline").split("\0")[:-1]
    pairs = read(pid, "environ").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {
        "pid": int(pid),
        "parent": int(read(pid, "stat").rpartition(")")[2].split()[1]),
        "user": pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name,
        "words": words,
        "cgroup": read(pid, "cgroup").strip().rpartition(":")[2],
        "worker": environment.get("ARROYO__WORKER__ID"),
    }


def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found = process(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found["words"]:
            yield found


print(json.dumps(list(processes())))
