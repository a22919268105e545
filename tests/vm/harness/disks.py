"""The disks of one virtual machine.

    /dev/vda   cache.qcow2 ─▶ disk.qcow2 ─▶ root.img (shared by all, never written)
    /dev/vdb   payload.img: the agent and `guest/`, at /opt

`cache.qcow2` is the disk's volatile write cache. qemu keeps the map of the clusters that it adds to
this file in memory until the guest asks for a flush. So when qemu is killed, what the guest has
written since its last flush is lost in part: clusters that are new are gone, those that were there
before are overwritten. That is what a disk does when its power is cut. Clusters are as large as the
guest's blocks, so that no block keeps another.
"""

import shutil

from .host import run

CLUSTER = "cluster_size=4096"


class Disks:
    """Files in a directory of their own."""

    def __init__(self, directory, image):
        directory.mkdir(parents=True)
        self.kernel = image / "vmlinuz"
        self.initrd = image / "initrd.img"
        self.payload = directory / "payload.img"
        self._disk = directory / "disk.qcow2"
        self.root = directory / "cache.qcow2"
        _layer(self._disk, image / "root.img", "raw")
        _layer(self.root, self._disk, "qcow2")

    def fill_payload(self, files):
        """Writes the payload: a dictionary of paths below /opt, and the files to copy there."""
        tree = self.payload.with_suffix(".tree")
        for name, source in files.items():
            place = tree / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
        used = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file())
        size = f"{(used >> 20) + 32}M"
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, self.payload, size)
        shutil.rmtree(tree)

    def settle(self):
        """Moves what the cache holds to the disk. Only while the machine has no power."""
        run("qemu-img", "commit", "-q", self.root)


def _layer(file, below, format):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", CLUSTER, "-b", below, "-F", format, file)
