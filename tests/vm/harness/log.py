"""The log of one case: what the harness did, and the guest's console, in the order of time.

[  41.2] $ arroyo-node ps --all            what was done or found
[  41.9] | arroyo-node[300]: …             the guest's console, with the journal of all units
"""

import threading
import time
from collections import deque


class Log:
    """Lines may come from any thread."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", buffering=1, errors="replace")
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._last = deque(maxlen=25)

    def did(self, text):
        """Something that the harness did or found."""
        self._write("", text)
        self._last.append(text)

    def console(self, text):
        """Something that the guest printed."""
        self._write("| ", text)

    def last(self):
        """The last things that were done or found."""
        return list(self._last)

    def close(self):
        with self._lock:
            self._file.close()

    def _write(self, mark, text):
        now = time.monotonic() - self._began
        with self._lock:
            if self._file.closed:
                return
            for line in text.splitlines() or [""]:
                self._file.write(f"[{now:7.1f}] {mark}{line}\n")
