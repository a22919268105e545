"""The control channel, the harness's end. `guest/control.py` is the other.

It is a virtio serial port, which qemu shows as a Unix socket. One JSON object a line:

    harness ─▶ guest   {"id": 7, "command": "systemctl is-active …", "timeout": 60}
    guest ─▶ harness   {"id": 7, "status": 0, "stdout": "active\\n", "stderr": ""}
    guest ─▶ harness   {"boot": "6f1c…"}             once for each boot, before anything else

A line that is not JSON is what a dying guest left of one. It is passed over.
"""

import itertools
import json
import socket
import time
from dataclasses import dataclass


@dataclass
class Result:
    """How a command in the guest ended. Status 124: it was killed after its timeout."""

    status: int
    stdout: str
    stderr: str


class GuestGone(Exception):
    """The guest does not answer, and will not."""


class GuestRebooted(GuestGone):
    """It was rebooted instead, and is up again."""


class Link:
    """One connection, for as long as the virtual machine has power."""

    def __init__(self, path, deadline=30):
        self._ids = itertools.count(1)
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        until = time.monotonic() + deadline
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def wait_for_boot(self, timeout):
        """Waits until a guest says that it is up, and returns the id of that boot."""
        until = time.monotonic() + timeout
        while True:
            message = self._receive(until)
            if "boot" in message:
                return message["boot"]

    def run(self, command, timeout):
        """Runs a shell command in the guest, as root, and waits for its end."""
        number = next(self._ids)
        request = {"id": number, "command": command, "timeout": timeout}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        # The guest ends the command in time, if it lives.
        until = time.monotonic() + timeout + 60
        while True:
            message = self._receive(until)
            if "boot" in message:
                raise GuestRebooted(f"the guest was rebooted during: {command}")
            if message.get("id") == number:
                return Result(message["status"], message["stdout"], message["stderr"])

    def _receive(self, until):
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                self._fill(until)
                continue
            self._buffer = rest
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                return message

    def _fill(self, until):
        self._socket.settimeout(max(0.001, until - time.monotonic()))
        try:
            data = self._socket.recv(65536)
        except (TimeoutError, ConnectionError) as error:
            raise GuestGone(f"the guest does not answer: {error}") from error
        if not data:
            raise GuestGone("the virtual machine has no power")
        self._buffer += data
