"""What this machine must have. Without it nothing is tried, and that is said."""

import os
import shutil

from .machine import QEMU

PROGRAMS = {
    QEMU: "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "apt-get": "apt",
}


def missing():
    """What is missing, in words; an empty list if nothing is."""
    absent = [
        f"{program} (Debian package {package})"
        for program, package in PROGRAMS.items()
        if not shutil.which(program)
    ]
    if os.geteuid() != 0:
        absent.append("root, which debootstrap needs")
    return absent
