"""A fuzzer: valid files of a kind, damaged at random, are read; whatever is not read must be refused in one line.

As a script (`python tests/fuzz.py KIND FOLDER FIRST COUNT`) it reads the files FIRST, FIRST + 1, ... and writes the
number of each to FOLDER/now before it is read and what went wrong to FOLDER/found; `test_fuzz.py` looks after it.
A file that takes more than 5 s of processor time ends it by SIGPROF.
"""

import json
import os
import signal
import struct
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from scipy.io import savemat

from encoders import encoded, tiff
from spx_cli.errors import SpxError

SECONDS, MEGABYTES, LONGEST = 5, 1000, 1000
RNG = np.random.default_rng(5)
PHOTO = RNG.integers(0, 256, (23, 31, 3)).astype(np.uint8)
LABELS = (np.arange(23)[:, None] // 6 * 5 + np.arange(31) // 7).astype(np.int32)
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
WORDS = (b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"99999999999999999999", b"[", b"]", b"{", b"}", b'""', b",")


def mutate(data, rng, others):
    """Return a damaged copy: one to three injuries, half of them to the first 300 bytes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        end = max(1, min(len(data), 300) if rng.random() < 0.5 else len(data))
        at, size = int(rng.integers(0, end)), int(rng.integers(1, 1 + min(64, end)))
        match rng.integers(0, 11):
            case 0 | 1:
                for place in rng.integers(0, end, rng.integers(1, 9)):
                    data[place : place + 1] = bytes([data[place] ^ (1 << int(rng.integers(8)))]) if data else b""
            case 2:
                data[at : at + size] = rng.integers(0, 256, size).astype(np.uint8).tobytes()
            case 3 | 4:
                value, width = EXTREMES[rng.integers(len(EXTREMES))], int(rng.choice([1, 2, 4, 8]))
                order = "big" if rng.random() < 0.5 else "little"
                data[at : at + width] = (value & (256**width - 1)).to_bytes(width, order)
            case 5:
                del data[at:]
            case 6:
                del data[at : at + size]
            case 7:
                data[at:at] = data[at : at + size] * int(rng.integers(1, 50))
            case 8:
                other = others[rng.integers(len(others))]
                data[at:] = other[min(at, len(other) - 1) :]
            case 9:
                data[at : at + size] = bytes(size)
            case 10:
                data[at : at + int(rng.integers(0, 4))] = WORDS[rng.integers(len(WORDS))]
    return bytes(data)


# Valid files, by name; the suffix is kept


def image_files(folder):
    grey, deep = PHOTO[..., 0], (PHOTO[..., 0].astype(np.uint16) << 8) + PHOTO[..., 1]
    alpha = np.dstack([PHOTO, grey])
    exif = pillow.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [pillow.fromarray(PHOTO[::-1])], "duration": 40}
    two = pillow.fromarray(grey > 99)
    found = {
        "rgb.png": encoded(PHOTO, "PNG", exif=exif),
        "alpha.png": encoded(alpha, "PNG"),
        "palette.png": encoded(pillow.fromarray(PHOTO).convert("P"), "PNG", transparency=3),
        "deep.png": encoded(deep, "PNG"),
        "bits.png": encoded(two, "PNG"),
        "anim.png": encoded(PHOTO, "PNG", **frames),
        "a.jpg": encoded(PHOTO, "JPEG", exif=exif),
        "progressive.jpg": encoded(PHOTO, "JPEG", progressive=True),
        "cmyk.jpg": encoded(pillow.fromarray(PHOTO).convert("CMYK"), "JPEG"),
        "lossy.webp": encoded(PHOTO, "WEBP"),
        "lossless.webp": encoded(alpha, "WEBP", lossless=True),
        "anim.webp": encoded(PHOTO, "WEBP", **frames),
        "a.bmp": encoded(PHOTO, "BMP"),
        "palette.bmp": encoded(pillow.fromarray(grey), "BMP"),
        "bits.bmp": encoded(two, "BMP"),
        "one.gif": encoded(pillow.fromarray(grey), "GIF"),
        "anim.gif": encoded(PHOTO, "GIF", **frames),
        "a.ppm": encoded(PHOTO, "PPM"),
        "plain.pgm": b"P2 3 2 15\n1 2 3\n4 5 6\n",
        "deep.pgm": b"P5 3 2 4095\n" + bytes(range(12)),
        "a.pfm": b"Pf\n3 2\n-1.0\n" + np.linspace(0, 1, 6).astype("<f4").tobytes(),
        "a.jp2": encoded(PHOTO, "JPEG2000"),
        "a.avif": encoded(PHOTO, "AVIF"),
        "plain.tif": tiff(PHOTO),
        "deep.tif": tiff(deep, byteorder=">"),
        "float.tif": tiff(np.float32(grey) / 255, compression="zlib"),
        "tiles.tif": tiff(np.tile(PHOTO, (2, 2, 1)), tile=(16, 16), compression="zlib", predictor=True),
        "planes.tif": tiff(PHOTO.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "big.tif": tiff(PHOTO, bigtiff=True),
        "pages.tif": tiff(np.stack([grey, grey]), photometric="minisblack"),
        "palette.tif": encoded(pillow.fromarray(PHOTO).convert("P"), "TIFF"),
    }
    for name in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        found[f"{name}.tif"] = encoded(PHOTO, "TIFF", compression=name)
    for name in ("group3", "group4"):
        found[f"{name}.tif"] = encoded(two, "TIFF", compression=name)
    found["lzw16.tif"] = encoded(pillow.fromarray(deep), "TIFF", compression="tiff_lzw")
    return found


def label_files(folder):
    from spx_cli.io import FORMATS, write_labels

    found = {}
    for name, form in FORMATS.items():
        write_labels(folder / f"map{form.suffixes[0]}", LABELS, format=name, metadata={"k": 3})
        found[f"map{form.suffixes[0]}"] = (folder / f"map{form.suffixes[0]}").read_bytes()
    cells = np.empty((1, 2), object)
    for i in range(2):
        cells[0, i] = {"Segmentation": LABELS.astype(np.uint16), "Boundaries": LABELS > 3}
    for name, content, options in (
        ("plain", {"labels": LABELS}, {}),
        ("two", {"L": LABELS.astype(float), "N": 20.0}, {"do_compression": True}),
        ("v4", {"labels": LABELS}, {"format": "4"}),
        ("truth", {"groundTruth": cells}, {}),
        ("packed", {"groundTruth": cells}, {"do_compression": True}),
    ):
        savemat(folder / f"{name}.mat", content, **options)
        found[f"{name}.mat"] = (folder / f"{name}.mat").read_bytes()
    np.save(folder / "float.npy", LABELS.astype(float))
    found["float.npy"] = (folder / "float.npy").read_bytes()
    found["deep.png"] = encoded(LABELS.astype(np.uint16), "PNG")
    found["colour.png"] = encoded(np.dstack([LABELS] * 3).astype(np.uint8), "PNG")
    found["lzw.tif"] = encoded(LABELS.astype(np.uint8), "TIFF", compression="tiff_lzw")
    found["a.gif"] = encoded(pillow.fromarray(LABELS.astype(np.uint8)), "GIF")
    found["a.bmp"] = encoded(pillow.fromarray(LABELS.astype(np.uint8)), "BMP")
    found["a.pgm"] = encoded(pillow.fromarray(LABELS.astype(np.uint8)), "PPM")
    found["a.flo"] = struct.pack("<fii", 202021.25, 31, 23) + bytes(8 * 31 * 23)
    rows = "\n".join(" ".join(map(str, row)) for row in (LABELS % 8 - 1).tolist())
    found["a.regions.txt"] = rows.encode()
    return found


def weight_files(folder):
    import torch

    from spx_cli import weights
    from trainee import Trainee

    state = Trainee().build().state_dict()
    weights.save(folder / "w.safetensors", state, {"method": "trainee", "steps": "3"})
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": np.float64(3)}, folder / "w.pth")
    torch.save(state, folder / "old.tar", _use_new_zipfile_serialization=False)
    np.savez(folder / "w.npz", **{name: value.numpy() for name, value in state.items()})
    return {name: (folder / name).read_bytes() for name in ("w.safetensors", "w.pth", "old.tar", "w.npz")}


def trained():
    """A run after one step, and what it is about."""
    import torch

    from spx_cli.training.state import State
    from trainee import RECIPE, Trainee

    state = State(Trainee(), RECIPE, torch.device("cpu"), None)
    return state, {"method": "trainee", "recipe": asdict(RECIPE), "data": "none", "order": "0123"}


def checkpoint_files(folder):
    state, about = trained()
    for parameter in state.network.parameters():
        parameter.grad = parameter.detach() * 0.1
    state.optimizer.step()
    state.step = 3
    state.judge(0.5)
    state.save(folder / "checkpoint.pt", about)
    return {"checkpoint.pt": (folder / "checkpoint.pt").read_bytes()}


def scored(folder, **options):
    from spx_cli import evaluate
    from standin import StandIn

    return evaluate(folder / "data", StandIn(), [3, 5], metrics=("asa", "br"), **options)


def data_set(folder):
    from spx_cli.io import write_labels

    for i in range(3):
        for part in ("images", "labels"):
            (folder / "data" / part).mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.roll(PHOTO, i, 0)).save(folder / f"data/images/{i}.png")
        write_labels(folder / f"data/labels/{i}.png", np.roll(LABELS, i, 1))


def journal_files(folder):
    from spx_cli.batch.engine import segment_files
    from standin import StandIn

    data_set(folder)
    scored(folder, rows=folder / "rows.jsonl")
    list(segment_files(StandIn(), [folder / "data/images"], folder / "maps", n_segments=4))
    return {
        "rows.jsonl": (folder / "rows.jsonl").read_bytes(),
        "manifest": (folder / "maps/.spx-manifest.jsonl").read_bytes(),
    }


def baseline_files(folder):
    data_set(folder)
    document = scored(folder, at=(4.0,))
    whole = {**document.header, "summary": document.summary, "at": document.at, "rows": list(document.rows())}
    return {"run.json": json.dumps(whole).encode(), "indented.json": json.dumps(whole, indent=1).encode()}


def recipe_files(folder):
    from trainee import RECIPE

    return {"recipe.toml": RECIPE.to_toml().encode(), "short.toml": b'lr = 0.5\nsteps = 7\nflips = "hv"\n'}


# How they are read; each raises nothing but SpxError


def read_image_file(path, folder):
    from spx_cli.io import read_picture

    read_picture(path, value_range="auto" if len(path.name) % 2 else None)


def read_label_file(path, folder):
    from spx_cli.datasets.flow import read_flow
    from spx_cli.datasets.stanford import read_regions
    from spx_cli.io import count_ground_truth, read_ground_truth, read_labels

    ways = [lambda: read_labels(path, size=LABELS.shape), lambda: read_labels(path)]
    if path.suffix == ".mat":
        ways = [*ways, lambda: count_ground_truth(path), lambda: read_ground_truth(path, size=LABELS.shape)]
    if path.suffix == ".flo":
        ways = [lambda: read_flow(path)]
    if path.suffix == ".txt":
        ways = [lambda: read_regions(path, LABELS.shape)]
    refused(*ways)


def read_weight_file(path, folder):
    from spx_cli import weights
    from trainee import Trainee

    if path.suffix == ".safetensors":
        refused(lambda: Trainee(weights=str(path)).load(), lambda: weights.provenance(path))
    refused(lambda: Trainee().fit(weights.read_checkpoint(path), str(path)))


def read_checkpoint_file(path, folder):
    state, about = trained()
    state.load(path, about)


def read_journal(path, folder):
    from spx_cli.batch.engine import segment_files
    from standin import StandIn

    if path.name.startswith("rows"):
        scored(folder, rows=path, resume=True)
        return
    (folder / "maps/.spx-manifest.jsonl").write_bytes(path.read_bytes())
    images, options = [folder / "data/images"], {"n_segments": 4, "resume": True, "overwrite": True}
    assert all(result.error is None for result in segment_files(StandIn(), images, folder / "maps", **options))


def read_baseline(path, folder):
    from spx_cli.evaluation.gates import Conditions

    Conditions.parse([], [], path, ["asa=0.1"]).judge(scored(folder))


def read_recipe(path, folder):
    from spx_cli.methods._recipe import choose
    from trainee import RECIPE

    choose({"paper": RECIPE}, config=path).to_toml()


def refused(*ways):
    """Go each way; raise the last refusal, if there was one."""
    last = None
    for way in ways:
        try:
            way()
        except SpxError as error:
            check(error)
            last = error
    if last:
        raise last


def check(error):
    """One line, not too long, of characters that can be printed."""
    text = str(error)
    assert text.isprintable(), f"not printable: {text!r}"
    assert 0 < len(text) < LONGEST, f"{len(text)} characters: {text[:LONGEST]}"


KINDS = {
    "images": (image_files, read_image_file),
    "labels": (label_files, read_label_file),
    "weights": (weight_files, read_weight_file),
    "checkpoints": (checkpoint_files, read_checkpoint_file),
    "journals": (journal_files, read_journal),
    "baselines": (baseline_files, read_baseline),
    "recipes": (recipe_files, read_recipe),
}


def peak():
    """Return the most memory that this process has held, in megabytes; ru_maxrss begins with its parent's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) // 1024


def main(kind, folder, first, count):
    make, read = KINDS[kind]
    os.environ["SPX_HOME"] = str(folder)
    seeds = make(folder)
    for name, data in seeds.items():  # whole files are read, and everything is imported and compiled
        (folder / name).write_bytes(data)
        try:
            read(folder / name, folder)
        except SpxError:
            assert name == "pages.tif" or name.endswith(".mat"), name  # a .mat is read as a map, and as truth
    here = [folder / f"case-{name}" for name in seeds]
    (folder / "now").write_text("-1")
    with (folder / "found").open("a") as found:
        for number in range(first, first + count):
            rng = np.random.default_rng([number, *kind.encode()])
            name = list(seeds)[number % len(seeds)]
            path = here[number % len(seeds)]
            if kind == "journals":
                path = folder / name
            path.write_bytes(mutate(seeds[name], rng, [*seeds.values()]))
            (folder / "now").write_text(str(number))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            before = os.fstat(2).st_size
            try:
                read(path, folder)
            except SpxError as error:
                try:
                    check(error)
                except AssertionError as wrong:
                    found.write(f"{number} {name}: {wrong}\n")
            except BaseException:
                found.write(f"{number} {name}: {traceback.format_exc()}\n")
            signal.setitimer(signal.ITIMER_PROF, 0)
            sys.stderr.flush()
            if os.fstat(2).st_size > before:
                found.write(f"{number} {name}: printed on standard error\n")
            if (used := peak()) > MEGABYTES:
                found.write(f"{number} {name}: took {used} MB\n")
                break
            found.flush()
    (folder / "now").write_text("done")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
