"""The command line: which cases, with which agent, and the table at the end."""

import argparse
import fcntl
import importlib
import random
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from . import recipe, requirements
from .link import GuestGone
from .log import Log
from .machine import CommandFailed
from .places import REPOSITORY, TARGET, TESTS, Places
from .trial import Broken, Trial


@dataclass
class Outcome:
    case: str
    passed: bool
    seconds: float
    left_out: list


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/vm/run",
        description="Tries the real agent in a real Debian machine under qemu.",
        epilog="Cases: " + ", ".join(all_cases()),
    )
    parser.add_argument("--cases", metavar="A,B", help="only these")
    parser.add_argument(
        "--binary", metavar="PATH", default=REPOSITORY / "target/debug/arroyo-node",
        help="the agent to try [default: target/debug/arroyo-node]",
    )  # fmt: skip
    parser.add_argument(
        "--cuts", metavar="N", type=int, default=30,
        help="how often power_cut cuts the power [default: 30]",
    )  # fmt: skip
    parser.add_argument(
        "--debian", choices=recipe.SUITES, default=recipe.SUITES[0],
        help="the guest's Debian [default: %(default)s]",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="of what is random [default: another each time]")
    parser.add_argument("--keep", action="store_true", help="keep the disks of all cases")
    parser.add_argument(
        "--required", action="store_true", help="fail if this machine lacks what is needed"
    )
    return parser.parse_args()


def all_cases():
    return sorted(file.stem for file in (TESTS / "cases").glob("*.py"))


def main():
    args = arguments()
    cases = args.cases.split(",") if args.cases else all_cases()
    unknown = set(cases) - set(all_cases())
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    if not Path(args.binary).exists():
        raise SystemExit(f"there is no {args.binary}: build the agent first, or name another")
    missing = requirements.missing()
    if missing:
        print(f"left out: the virtual machine needs {', '.join(missing)}")
        return 1 if args.required else 0

    TARGET.mkdir(parents=True, exist_ok=True)
    with (TARGET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A build may replace the agent while this runs.
        binary = shutil.copy(args.binary, TARGET / "arroyo-node")
        image = recipe.image(TARGET, args.debian)
        seed = args.seed if args.seed is not None else random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        outcomes = [run(case, image, binary, seed, args) for case in cases]
    return tell(outcomes)


def run(case, image, binary, seed, args):
    """Runs one case. Its disks are kept if it fails."""
    module = importlib.import_module(f"cases.{case}")
    places = Places(case, image)
    log = Log(places.log)
    log.did(f"{case}, seed {seed}")
    trial = Trial(places, binary, log, args.cuts, seed)
    began = time.monotonic()
    passed = False
    try:
        module.run(trial)
        passed = True
    except (Broken, CommandFailed, GuestGone) as error:
        log.did(f"FAILED: {error}")
    except Exception:
        log.did(f"FAILED:\n{traceback.format_exc()}")
    finally:
        trial.end()
        log.close()
    if passed and not args.keep:
        shutil.rmtree(places.scratch)
    outcome = Outcome(case, passed, time.monotonic() - began, trial.left_out)
    print(line(outcome), flush=True)
    if not passed:
        print("\n".join(f"    {text}" for text in log.last()))
        print(f"    see {places.log}; the disks are in {places.scratch}", flush=True)
    return outcome


def line(outcome):
    word = "passed" if outcome.passed else "FAILED"
    parts = f"  left out: {'; '.join(outcome.left_out)}" if outcome.left_out else ""
    return f"{outcome.case:<16} {word}  {outcome.seconds:5.0f} s{parts}"


def tell(outcomes):
    failed = [outcome for outcome in outcomes if not outcome.passed]
    print("\n" + "\n".join(line(outcome) for outcome in outcomes))
    print(f"\n{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0
