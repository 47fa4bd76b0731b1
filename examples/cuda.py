"""What a GPU does for spx: its tests, times, images per second of a folder, and crops per second in training.

    python examples/cuda.py --data BSDS500 --out RESULTS            # about 6 minutes on a GPU
    python examples/cuda.py --device cpu --quick --out RESULTS      # the same code, to see that it runs

Each part (see `cuda_parts.py`) runs in a process of its own and within its time, so that what fails takes nothing else
along. Everything is printed, and kept in RESULTS/cuda.log and RESULTS/cuda.json.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT, PROGRAM = Path(__file__).parents[1], Path(__file__).with_name("cuda_parts.py")
# Name and seconds of each part, in order of importance. "warm" compiles all kernels, in several processes at once.
PARTS = {
    "warm": 60, "tests": 140, "slic": 20, "ssn": 25, "sin": 25, "fcn": 25, "folder": 100,
    "train ssn": 40, "train sin": 30, "train fcn": 30, "train elm": 40, "scores": 25,
}  # fmt: skip
ALL = 360  # seconds, for all parts together
WARM = ("sin", "ssn", "fcn", "elm", "slic", "training", "triton")
ROWS = "cuda.jsonl"  # in the folder of the results; `cuda_parts` adds a line as soon as it is known


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / ROWS).write_text("")
    sound = True
    started = time.monotonic()
    with (options.out / "cuda.log").open("w") as log:
        say = partial(tell, log)
        say(f"spx on {options.device}: {describe(options.device)}; {os.cpu_count()} cores")
        waiting = [part for part in PARTS if not options.only or part in options.only]
        for part in waiting:
            left = options.patience * ALL - (time.monotonic() - started)
            if left < 5:
                say(f"== {part}: no time left")
                continue
            limit, begun = min(options.patience * PARTS[part], left), time.monotonic()
            say(f"== {part} (at {begun - started:.0f} s)")
            if part == "warm":
                commands = [command(options, f"warm {name}") for name in WARM]
            else:
                commands = tests() if part == "tests" else [command(options, part)]
            sound &= together(commands, options.data, limit, say)
            say(f"   {part}: {time.monotonic() - begun:.0f} s")
        say(f"== in all {time.monotonic() - started:.0f} s")
    rows = [json.loads(line) for line in (options.out / ROWS).read_text().splitlines() if line.endswith("}")]
    (options.out / "cuda.json").write_text(json.dumps(rows, indent=1))
    return 0 if sound and not any("failed" in row for row in rows) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", type=Path, help="BSDS500; without it pictures are made up, and nothing is trained")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small pictures and short times")
    parser.add_argument("--only", nargs="*", default=[], help=f"of {', '.join(PARTS)}")
    parser.add_argument("--patience", type=float, default=1.0, help="allow so many times the usual seconds")
    return parser.parse_args()


def tell(log: Any, text: str) -> None:
    for stream in (log, sys.stdout):
        print(text, file=stream, flush=True)


def describe(device: str) -> str:
    code = "import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or device


def command(options: argparse.Namespace, part: str) -> list[str]:
    words = [sys.executable, str(PROGRAM), part, "--device", options.device, "--out", str(options.out)]
    return words + (["--data", str(options.data)] if options.data else []) + (["--quick"] if options.quick else [])


def tests() -> list[list[str]]:
    """Return commands that run the tests side by side."""
    words = "-m pytest -q -m gpu -W default --durations=6 -p no:cacheprovider tests/test_gpu.py"
    shared = ("triton or soft_association", "contract", "agree_on_photos", "odd_sizes", "training or checkpoint")
    rest = " and ".join(f"not ({names})" for names in shared)
    return [[sys.executable, *words.split(), "-k", names] for names in (*shared, rest)]


def together(commands: list[list[str]], data: Path | None, limit: float, say: Callable[[str], None]) -> bool:
    """Run commands side by side, pass on what they print, end those that take too long; return whether all went well.

    data : where the tests find photographs.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    if data is not None:
        environment["SPX_GPU_DATA"] = str(data.resolve())
    sound = True
    running = [
        subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for words in commands
    ]
    readers = [threading.Thread(target=lambda p=p: [say("   " + line.rstrip()) for line in p.stdout]) for p in running]
    for reader in readers:
        reader.start()
    end = time.monotonic() + limit
    for process, words in zip(running, commands, strict=True):
        try:
            code = process.wait(max(0.1, end - time.monotonic()))
            sound &= code == 0
            if code:
                say(f"   exit code {code}: {' '.join(words[-12:])}")
        except subprocess.TimeoutExpired:
            say(f"   stopped after {limit:.0f} s: {' '.join(words[-12:])}")
            process.kill()
            sound = False
    for reader in readers:
        reader.join()
    return sound


if __name__ == "__main__":
    sys.exit(main())
