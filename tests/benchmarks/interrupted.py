"""Kill a reproduction again and again: does the table come out the same?

    python tests/benchmarks/interrupted.py

All fifteen categories of the sample set, one epoch, four times: left alone; killed (SIGKILL, the
whole process) at five random moments and started again each time; by Ray with two workers; by Ray
with a worker killed at a random moment. Compares every metric of every run, all decimals, but for
seconds; ends with an error where one differs. The tests do the like with tiny images.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

FASTFLOW = Path(sys.executable).with_name("fastflow")


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        FASTFLOW,
        "reproduce",
        "--output",
        output,
        "--epochs",
        "1",
        "--device",
        "cpu",
        *more,
    ]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[str]:
    lines = process.communicate()[0].splitlines()
    if process.returncode:
        sys.exit("\n".join(lines))
    return lines


def metrics_of(output: Path) -> dict[str, dict[str, object]]:
    """Everything that was measured, by the place of the run."""
    found = {}
    for file in sorted(output.rglob("metrics.json")):
        values = json.loads(file.read_text())
        del values["seconds"]
        found[str(file.parent.relative_to(output))] = values
    return found


def begun(output: Path) -> set[tuple[Path, int]]:
    """Return which runs were begun or ended, and when."""
    return {(file, file.stat().st_mtime_ns) for file in output.rglob("run.json")}


def workers(before: set[int]) -> list[int]:
    """Return the processes in which Ray runs a task, but for those of other people."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    found = {int(line.split()[0]) for line in listing.splitlines() if "ray::_call" in line}
    return sorted(found - before)


def judge(what: str, output: Path, expected: dict[str, dict[str, object]]) -> None:
    if metrics_of(output) != expected:
        sys.exit(f"{what}: another table")
    print(f"{what}: the same table, {len(expected)} runs", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("build/interrupted"))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    folder, moments = arguments.folder, random.Random(arguments.seed)
    if folder.exists():
        sys.exit(f"error: {folder} is there: name another with --folder, or remove it")

    began = time.perf_counter()
    finish(start(folder / "alone"))
    seconds = time.perf_counter() - began
    expected = metrics_of(folder / "alone")
    print(f"left alone: {len(expected)} runs in {seconds:.0f} s", flush=True)

    for _ in range(5):
        before = begun(folder / "killed")
        process = start(folder / "killed")
        while process.poll() is None and begun(folder / "killed") == before:
            time.sleep(0.1)  # it imports for some seconds first
        time.sleep(moments.uniform(0, seconds / 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = len(metrics_of(folder / "killed"))
        print(f"  killed with {there} of {len(expected)} runs there", flush=True)
    first = finish(start(folder / "killed"))[0]
    print(f"  then: {first}")
    judge("killed five times", folder / "killed", expected)

    threads = next(iter(expected.values()))["threads"]
    on_ray = ("--engine", "ray", "--jobs", "2", "--threads", str(threads))
    finish(start(folder / "ray", *on_ray))
    judge("Ray, two workers", folder / "ray", expected)

    others = set(workers(set()))
    process = start(folder / "ray killed", *on_ray)
    while process.poll() is None and not workers(others):
        time.sleep(0.1)
    time.sleep(moments.uniform(10, 30))
    busy = workers(others)
    there = len(metrics_of(folder / "ray killed"))
    os.kill(moments.choice(busy), signal.SIGKILL)
    print(f"  killed one of {len(busy)} busy workers with {there} runs there", flush=True)
    finish(process)
    judge("Ray, a worker killed", folder / "ray killed", expected)


if __name__ == "__main__":
    main()
