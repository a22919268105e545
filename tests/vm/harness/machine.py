"""One virtual machine: power, console, commands.

    machine = Machine(disks, log)
    machine.boot()                    power on, or again after it was cut
    machine.run("uname -r")           a shell command, as root
    machine.reboot("systemctl reboot; sleep 300")
    machine.cut_power()

There is no network card. Without KVM a boot takes half a minute, and all is some ten times slower.
"""

import subprocess
import tempfile
import threading
import time
from pathlib import Path

from .link import GuestRebooted, Link

QEMU = "qemu-system-x86_64"
BOOT_TIMEOUT = 900
# Seconds for what may take long on a machine that others use: only failures wait for it.
PATIENCE = 600
CMDLINE = (
    "root=/dev/vda rw console=ttyS0 loglevel=4 panic=-1 "
    "systemd.show_status=0 systemd.journald.forward_to_console=1"
)


class CommandFailed(Exception):
    """A command in the guest ended with another status than 0."""


class Machine:
    def __init__(self, disks, log):
        self.log = log
        self._disks = disks
        self._sockets = tempfile.TemporaryDirectory(prefix="arroyo-vm-")
        self._qemu = None
        self._link = None

    def boot(self):
        """Switches the power on and waits until the guest is up."""
        assert self._qemu is None, "it has power"
        socket = Path(self._sockets.name) / "control"
        socket.unlink(missing_ok=True)
        self._qemu = subprocess.Popen(
            self._command(socket),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        console = threading.Thread(target=self._pump, args=[self._qemu.stdout], daemon=True)
        console.start()
        self._link = Link(socket)
        self._wait_for_boot()

    def run(self, command, check=True, quiet=False):
        """Runs a shell command in the guest.

        With `check`, a status other than 0 is `CommandFailed`, and what is returned is what the
        command printed. Otherwise the `Result` is. With `quiet` the output is not logged.
        """
        self.log.did(f"$ {command}")
        result = self._link.run(command, PATIENCE)
        said = (result.stdout + result.stderr).rstrip()
        if said and not quiet:
            self.log.did(said[-4000:])
        if not check:
            return result
        if result.status != 0:
            raise CommandFailed(f"{command}: status {result.status}: {said[-1000:]}")
        return result.stdout

    def reboot(self, command):
        """Runs a command that reboots the guest, and waits until it is up again."""
        self.log.did(f"$ {command}")
        try:
            self._link.run(command, timeout=BOOT_TIMEOUT)
            self._wait_for_boot()
        except GuestRebooted:
            self.log.did("it is up again")

    def cut_power(self):
        """Switches the power off at once. What was not flushed to its disk is lost."""
        self._end()
        self._disks.settle()
        self.log.did("the power was cut")

    def discard(self):
        """Ends the virtual machine for good, with or without power."""
        if self._qemu:
            self._end()
        self._sockets.cleanup()

    def _end(self):
        self._qemu.kill()
        self._qemu.wait()
        self._qemu = None

    def _wait_for_boot(self):
        began = time.monotonic()
        boot = self._link.wait_for_boot(BOOT_TIMEOUT)
        self.log.did(f"boot {boot} took {time.monotonic() - began:.0f} s")

    def _pump(self, console):
        for line in console:
            self.log.console(line.decode(errors="replace").rstrip())

    def _command(self, socket):
        disks = self._disks
        return [
            # So that a harness which is killed leaves no virtual machine behind.
            "setpriv", "--pdeathsig", "KILL",
            QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-nic", "none",
            "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024",
            "-kernel", str(disks.kernel), "-initrd", str(disks.initrd), "-append", CMDLINE,
            "-drive", f"file={disks.root},format=qcow2,if=virtio,cache=writeback",
            "-drive", f"file={disks.payload},format=raw,if=virtio,readonly=on",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", f"socket,id=control,path={socket},server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=control,name=control",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip
