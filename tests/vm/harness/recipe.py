"""The root image: Debian with systemd, made once and kept.

`target/vm/image-SUITE-HASH/` has `root.img` (ext4), `vmlinuz` and `initrd.img`. The hash is of the
recipe, so that a change of it makes a new image. Nothing is mounted. The agent is not in the image:
it comes with the payload (`disks`).
"""

import hashlib
import inspect
import shutil
import tempfile
from pathlib import Path

from .host import run

# What each is for: README.md.
SUITES = ["bookworm", "trixie"]
PACKAGES = [
    "ca-certificates",
    "iproute2",
    "linux-image-cloud-amd64",
    "procps",
    "python3",
    "sqlite3",
    "systemd",
    "systemd-sysv",
]
SIZE = "3G"

FILES = {
    "etc/hostname": "vm\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n/dev/vdb /opt ext4 ro 0 0\n",
    # A boot takes ten seconds less with an initrd that has only what it needs.
    "etc/initramfs-tools/conf.d/vm": "MODULES=list\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    # The boot that a power cut ended is in the journal that the next one reads.
    "etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\n",
    "etc/systemd/system/control.service": """\
[Unit]
Description=The harness's hand in this machine
RequiresMountsFor=/opt

[Service]
ExecStart=/usr/bin/python3 /opt/guest/control.py
Restart=always
OOMScoreAdjust=-1000
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
""",
}
ENABLED = ["control.service"]
DISABLED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
]


def image(target, suite):
    """Returns the directory of the suite's image, and makes it if it is not there."""
    recipe = [PACKAGES, SIZE, FILES, ENABLED, DISABLED, inspect.getsource(_make)]
    name = f"image-{suite}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    made = target / name
    if not made.exists():
        print(f"making the root image {made} (two to five minutes)", flush=True)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix="making-") as making:
            _make(Path(making), suite)
            (Path(making) / "done").rename(made)
    return made


def _make(making, suite):
    root, done = making / "root", making / "done"
    done.mkdir()
    include = ",".join(PACKAGES)
    run("debootstrap", "--variant=minbase", f"--include={include}", suite, root, _mirror())
    for path, text in FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    run("systemctl", "--root", root, "--quiet", "enable", *ENABLED)
    run("systemctl", "--root", root, "--quiet", "mask", *DISABLED)
    run("chroot", root, "update-initramfs", "-u")
    for kind, name in [("vmlinuz", "vmlinuz"), ("initrd.img", "initrd.img")]:
        [file] = (root / "boot").glob(f"{kind}-*")
        shutil.copy(file, done / name)
    shutil.rmtree(root / "var/cache/apt")
    run("mke2fs", "-q", "-t", "ext4", "-d", root, done / "root.img", SIZE)


def _mirror():
    """The place from which this machine has Debian's packages."""
    format = "$(RELEASE) $(REPO_URI)"
    targets = run("apt-get", "indextargets", "--format", format, "Created-By: Packages")
    for line in targets.split("\n"):
        release, _, uri = line.partition(" ")
        if release in SUITES:
            return uri
    raise SystemExit(f"apt's sources name no mirror of {' or '.join(SUITES)}")
