"""Writes the table that `spx methods list` shows: what each method is, its ASA at 400 regions, and its time.

README.md shows some of its figures and gets them anew, too.

    python examples/catalogue.py                                       # what methods say of themselves, anew
    python examples/catalogue.py --data BSDS500 --results results      # and how good and how fast they are

The figures are those of `spx eval --json` and `spx bench --json` in the folder of results. What is missing there is
made first: the ASA of each method on the test images, or with --images on the first N, and the times of all methods at
once, each call beside one of scikit-image's SLIC. With -m only the methods named are measured.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import spx_cli
from spx_cli.methods import METHODS
from spx_cli.methods._catalogue import FILE, describe

README = Path(__file__).parents[1] / "README.md"
K = 400
PEER = "skimage-slic"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    old = json.loads(FILE.read_text())
    rows = {name: described(name, old["methods"].get(name, {})) for name in METHODS}
    table = {**old, "made": "made by python examples/catalogue.py", "methods": rows}
    if options.data:
        options.results.mkdir(parents=True, exist_ok=True)
        chosen = options.method or METHODS
        for name in chosen:
            rows[name] |= accuracy(name, options)
        table["asa"] = f"BSDS500 test, exactly {K} regions, protocol stutz, each annotation a sample"
        table["ms"] = times({name: rows[name] for name in chosen}, options)
    FILE.write_text(json.dumps(table, indent=1) + "\n")
    README.write_text(with_figures(README.read_text(), rows))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of BSDS500")
    parser.add_argument("--results", type=Path, default=Path("results"), help="a folder")
    parser.add_argument("-m", "--method", action="append", choices=METHODS, help="measure these only; repeatable")
    parser.add_argument("--images", type=int, help="score the first N images only")
    return parser.parse_args(arguments)


def described(name: str, old: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a method: what it says of itself now, and the figures of the old row."""
    row = describe(type(spx_cli.create(name)))
    return {key: old.get(key) if value is None else value for key, value in row.items()}


def accuracy(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the ASA of a method with its defaults, and on how many images; of several results, that on most."""
    best: list[dict[str, Any]] = []
    for file in options.results.glob("*.json"):
        document = json.loads(file.read_text())
        ours = document["methods"].get(name) == repr(spx_cli.create(name)) and "asa" in document["metrics"]
        if ours and (document["data"]["split"], document["protocol"]) == ("test", "stutz"):
            rows = [row for row in document["rows"] if (row["method"], row["k_requested"]) == (name, K)]
            best = max(best, rows, key=len)
    if best:
        return {
            "asa": round(statistics.fmean(row["asa"] for row in best), 6),
            "asa_images": len({row["image"] for row in best}),
        }
    limit = ["--limit", str(options.images)] if options.images else []
    run("eval", options, ["-m", name, *limit], options.results / f"{name}.json")
    return accuracy(name, options)


def times(rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """Enter the milliseconds of methods; return on what they were measured."""
    slow = [name for name, row in rows.items() if row["kind"] == "optimised"]  # minutes for an image
    said = ""
    for names, limit, file in ((slow, "1", "times-slow.json"), ([n for n in rows if n not in slow], "3", "times.json")):
        if not names:
            continue
        if not (options.results / file).exists():
            every = [part for name in names for part in ("-m", name)]
            run("bench", options, [*every, "--peer", PEER, "--against", PEER, "--limit", limit], options.results / file)
        document = json.loads((options.results / file).read_text())
        found = {row["method"]: row for row in document["summary"] if row["k_requested"] == K}
        place = document["bench"]
        for name in names:
            ms, ratio = (float(f"{found[name][key]:.3g}") for key in ("ms_min", "ratio"))
            rows[name] |= {"ms": ms, "ratio": ratio, "ms_images": len(place["timed"])}
        said = (
            f"{place['cpu']} under a load of {max(place['load']):.0f}, {document['threads']} thread, 481 x 321 pixels, "
            f"{K} regions, least of {place['repeats']} calls, of 3 slow ones; {PEER} takes "
            f"{found[PEER]['ms_min']:.3g}, ratio: to that beside it"
        )
    return said


def with_figures(text: str, rows: dict[str, dict[str, Any]]) -> str:
    """Return a text whose rows "| `name` | asa | ms | ratio | ..." have the figures of the table."""

    def filled(found: re.Match[str]) -> str:
        row = rows[found[1]]
        asa, ms, ratio = (
            "-" if row[key] is None else format(row[key], spec)
            for key, spec in (("asa", ".4f"), ("ms", ",g"), ("ratio", ".2g"))
        )
        return f"| `{found[1]}` | {asa.removeprefix('0')} | {ms} | {ratio.removeprefix('0')} |"

    figure = r" [\d.,-]+ \|"
    return re.sub(rf"^\| `({'|'.join(rows)})` \|{3 * figure}", filled, text, flags=re.MULTILINE)


def run(command: str, options: argparse.Namespace, extra: list[str], file: Path) -> None:
    """Run spx on the test images, into a file of results."""
    common = ["--data", str(options.data), "--layout", "bsds500", "-k", str(K), "--metric", "asa", "--resume"]
    subprocess.run([sys.executable, "-m", "spx_cli", command, *common, *extra, "-q", "--json", str(file)], check=True)


if __name__ == "__main__":
    main()
