"""Programs of this machine, not of the guest."""

import subprocess


class ProgramFailed(Exception):
    """A program ended with another status than 0."""


def run(*command):
    """Runs a program and returns what it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise ProgramFailed(f"{command[0]} failed: {(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
