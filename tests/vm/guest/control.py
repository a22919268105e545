"""The control channel, the guest's end: runs what the harness asks for, one command at a time.

The protocol is in `harness/link.py`. This runs as a service, from the payload disk.
"""

import json
import os
import signal
import subprocess

PORT = "/dev/virtio-ports/control"
TIMED_OUT = 124


def run(command, timeout):
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=timeout)
        return {"status": process.returncode, "stdout": out, "stderr": err}
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return {"status": TIMED_OUT, "stdout": out, "stderr": err}


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def main():
    # A port can be opened only once, so both directions share a descriptor.
    port = os.open(PORT, os.O_RDWR)

    def send(message):
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(port, data) :]

    send({"boot": boot_id()})
    with os.fdopen(os.dup(port), "rb") as requests:
        for line in requests:
            request = json.loads(line)
            answer = run(request["command"], request["timeout"])
            send({"id": request["id"], **answer})


main()
