"""Where things are: what is read in the repository, and what is written below `target/vm/`."""

import re
import shutil
from pathlib import Path

TESTS = Path(__file__).absolute().parents[1]
REPOSITORY = TESTS.parents[1]
TARGET = REPOSITORY / "target" / "vm"


class Places:
    """Those of one case."""

    def __init__(self, case, image):
        self.image = image
        self.log = TARGET / "logs" / f"{case}.log"
        self.scratch = TARGET / "run" / case
        shutil.rmtree(self.scratch, ignore_errors=True)

    def guest_files(self):
        """What the payload holds besides the agent, by its path there."""
        unit = self.scratch.parent / "arroyo-node.service"
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(documented_unit())
        ours = {f"guest/{file.name}": file for file in (TESTS / "guest").iterdir()}
        return {**ours, "guest/arroyo-node.service": unit}


def documented_unit():
    """The agent's unit is the one that the documentation tells people to use."""
    text = (REPOSITORY / "docs" / "migrating.md").read_text()
    [unit] = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    return unit
