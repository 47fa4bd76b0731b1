"""Writes the table that `spx methods list` shows: what each method is, its ASA at 400 regions, and its time.

    python examples/catalogue.py                                            # what methods say of themselves, anew
    python examples/catalogue.py --data BSDS500 --scores scores             # and how good and how fast they are
    python examples/catalogue.py --data BSDS500 --scores scores -m rim --images 20

Accuracy is taken from the results of `spx eval --json` in the folder of scores, and made there where it is missing: on
the test images, or the first N. Time is that of one thread on the processor, other work on the machine left out: the
median over a few images of the least of several runs, the methods taking turns. It is measured for all methods at once,
and so is scikit-image's SLIC, by which two machines may be compared.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import spx_cli
from spx_cli.methods import METHODS
from spx_cli.methods._catalogue import FILE, describe

K = 400
TIMED = 5  # images
ROUNDS = 5  # of which the fastest counts
ENOUGH = 20.0  # seconds for a method, after which it takes no further part
PEER = "scikit-image's slic"


def main() -> None:
    options = parse()
    old = json.loads(FILE.read_text())
    table = {**old, "made": f"made by python {Path(__file__).parent.name}/{Path(__file__).name}"}
    table["methods"] = {name: described(name, old["methods"].get(name, {})) for name in METHODS}
    if options.data:
        options.scores.mkdir(parents=True, exist_ok=True)
        for name in options.method or METHODS:
            table["methods"][name] |= score(name, options)
        table["asa"] = f"BSDS500 test, exactly {K} regions, protocol stutz, each annotation a sample"
        images = [spx_cli.read_image(path) for path in sorted((options.data / "images/test").glob("*.jpg"))[:TIMED]]
        times = measure(images)
        for name in METHODS:
            table["methods"][name] |= {"ms": times[name], "ms_images": len(images)}
        table["ms"] = f"{processor()}, one thread, 481 x 321 pixels, {K} regions; {PEER} takes {times[PEER]:.3g}"
    FILE.write_text(json.dumps(table, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of BSDS500")
    parser.add_argument("--scores", type=Path, default=Path("scores"), help="results of spx eval --json")
    parser.add_argument("-m", "--method", action="append", choices=METHODS, help="score these only; repeatable")
    parser.add_argument("--images", type=int, help="score the first N images only")
    return parser.parse_args()


def described(name: str, old: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a method: what it says of itself now, and the figures of the old row."""
    row = describe(type(spx_cli.create(name)))
    return {key: old.get(key) if value is None else value for key, value in row.items()}


def score(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the ASA of a method with its defaults, and on how many images."""
    for file in sorted(options.scores.glob("*.json")):
        document = json.loads(file.read_text())
        if document["methods"].get(name) != repr(spx_cli.create(name)) or document["data"]["split"] != "test":
            continue
        rows = [row for row in document["rows"] if row["method"] == name and row["k_requested"] == K]
        if document["protocol"] == "stutz" and rows:
            return {"asa": statistics.fmean(row["asa"] for row in rows), "asa_images": len({r["image"] for r in rows})}
    command = f"spx_cli eval --data {options.data} --layout bsds500 -m {name} -k {K} --metric asa -q --json".split()
    limit = ["--limit", str(options.images)] if options.images else []
    subprocess.run([sys.executable, "-m", *command, str(options.scores / f"{name}-{K}.json"), *limit], check=True)
    return score(name, options)


def measure(images: list[np.ndarray]) -> dict[str, float]:
    """Return the milliseconds of each method, and of the peer."""
    from skimage.segmentation import slic

    torch.set_num_threads(1)
    methods: dict[str, Callable[[np.ndarray], Any]] = {name: spx_cli.create(name).segment for name in METHODS}
    ways = {name: (lambda image, segment=segment: segment(image, K)) for name, segment in methods.items()}
    ways[PEER] = lambda image: slic(image, K)
    best = {name: [float("inf")] * len(images) for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            for i, image in enumerate(images):
                if spent[name] > ENOUGH and best[name][-1] < float("inf"):
                    break
                started = time.process_time()
                way(image)
                seconds = time.process_time() - started
                best[name][i] = min(best[name][i], seconds)
                spent[name] += seconds
    return {name: round(1000 * statistics.median(times), 2) for name, times in best.items()}


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
