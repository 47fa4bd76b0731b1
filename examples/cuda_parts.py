"""What `cuda.py` measures, a part at a time: python examples/cuda_parts.py "train fcn" --data BSDS500 --out RESULTS."""

import argparse
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copy
from typing import Any

LEARNED = ("sin", "ssn", "fcn", "elm")
# Method, processes and arithmetic with which a folder is segmented.
FOLDERS = (
    ("sin", 1, "float32"), ("sin", 4, "float32"), ("sin", 8, "float32"), ("sin", 4, "tf32"), ("fcn", 4, "tf32"),
    ("slic", 4, ""), ("ssn", 4, "tf32"),
)  # fmt: skip
ROWS = "cuda.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", help="as `cuda.py` names them")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    work(options)


def work(options: argparse.Namespace) -> None:
    """Do one part, in this process."""
    kind, _, name = options.part.partition(" ")
    if kind == "warm":
        warm(name, options)
    elif kind == "train":
        train_rate(name, options)
    elif kind == "folder":
        folder(options)
    elif kind == "scores":
        guarded(options, "scores", lambda: scores(options))
    elif kind == "slic":
        slic_times(options)
    else:
        times(kind, options)


def keep(options: argparse.Namespace, **row: Any) -> None:
    """Print a row and add it to the results."""
    print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    with (options.out / ROWS).open("a") as file:
        file.write(json.dumps(row) + "\n")


def guarded(options: argparse.Namespace, what: str, action: Callable[[], Any]) -> None:
    """Do something, and say what went wrong if it does."""
    try:
        action()
    except Exception:
        keep(options, failed=what, error=traceback.format_exc(limit=-4))


def photos(options: argparse.Namespace, height: int, width: int, count: int) -> list[Any]:
    """Real pictures of one size, or made-up ones."""
    import numpy as np
    from PIL import Image

    paths = sorted(options.data.rglob("images/*/*.jpg"))[:count] if options.data else []
    if not paths:
        rng = np.random.default_rng(0)
        small = [rng.integers(0, 256, (9, 12, 3), dtype=np.uint8) for _ in range(count)]
        return [np.asarray(Image.fromarray(s).resize((width, height), Image.Resampling.BICUBIC)) for s in small]
    found = []
    for i in range(count):
        with Image.open(paths[i % len(paths)]) as picture:
            turned = picture.convert("RGB")
            if turned.height > turned.width:
                turned = turned.transpose(Image.Transpose.ROTATE_90)
            found.append(np.asarray(turned.resize((width, height), Image.Resampling.BICUBIC)))
    return found


def clock(action: Callable[[], Any], device: str, seconds: float, most: int = 300) -> dict[str, float]:
    """Milliseconds of an action, the device synchronised before and after: the least and the median of several."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    for _ in range(3):
        action()
    spent, end = [], time.perf_counter() + seconds
    while len(spent) < 3 or (time.perf_counter() < end and len(spent) < most):
        wait()
        begun = time.perf_counter()
        action()
        wait()
        spent.append(1000 * (time.perf_counter() - begun))
    return {"min": round(min(spent), 4), "median": round(statistics.median(spent), 4), "runs": len(spent)}


# Height, width, superpixels of the network's own grid, and batches.
CASES = {
    "sin": (321, 481, 384, (1, 16, 64)),
    "fcn": (321, 481, 400, (1, 16, 64)),
    "ssn": (512, 1024, 1000, (1, 8)),
}


def times(name: str, options: argparse.Namespace) -> None:
    """Times of a learned method: on the device alone, with the copies, and with all that comes before and after."""
    height, width, k, batches = CASES[name]
    if options.quick:
        height, width, k, batches = 96, 144, 24, batches[:2]
    images = photos(options, height, width, max(batches))
    seconds = 0.1 if options.quick else 0.3
    for precision in ("float32", "tf32", "bfloat16"):
        for batch in batches:
            some = images[:batch]
            guarded(
                options, f"{name} {precision}", lambda p=precision, s=some: time_one(name, p, s, k, seconds, options)
            )
    if name == "ssn":
        guarded(options, "clustering", lambda: time_clustering(height, width, k, seconds, options))
    guarded(options, f"{name} stages", lambda: time_stages(name, images[:8], k, options))


def time_one(name: str, precision: str, images: list[Any], k: int, seconds: float, options: argparse.Namespace) -> None:
    import torch

    from spx_cli import device
    from spx_cli.methods import create
    from spx_cli.methods._feedforward import run
    from spx_cli.methods._graphs import Graphs
    from spx_cli.methods._tensors import stack

    method, size = create(name, device=options.device, precision=precision), images[0].shape[:2]
    where, graphs = method.where, Graphs()
    prepared = [method.prepare(image, k) for image in images]
    infer = partial(method.infer, size=size, n_segments=k)
    row: dict[str, Any] = {"what": name, "size": f"{size[1]}x{size[0]}", "k": k, "precision": precision}
    row["batch"] = len(images)

    def note(kind: str, found: dict[str, float]) -> None:
        rate = 1000 * len(images) / found["median"]
        keep(options, **row, kind=kind, **{"min ms": found["min"], "median ms": found["median"], "images/s": rate})

    with device.turn(where, precision), torch.inference_mode():
        x = stack(prepared, where).contiguous(memory_format=method.layout(where))
        if where.type == "cuda" and len(images) == 1:
            for _ in range(2):
                graphs.run("x", infer, x)
            note(
                "device, graph" if len(graphs) else "device, NO GRAPH",
                clock(lambda: graphs.run("x", infer, x), options.device, seconds),
            )
        else:
            note("device", clock(lambda: infer(x), options.device, seconds))
    copied = partial(run, infer, prepared, where, graphs, "y", precision=precision, layout=method.layout(where))
    note("with copies", clock(copied, options.device, seconds))
    if precision == "float32" or len(images) == max(CASES[name][3]):
        note(
            "segment_batch",
            clock(lambda: method.segment_batch(images, int(k / method.oversegmentation)), options.device, seconds, 30),
        )
    if where.type == "cuda":
        keep(options, **row, kind="peak memory", GB=torch.cuda.max_memory_allocated() / 2**30)
        torch.cuda.reset_peak_memory_stats()


def time_clustering(height: int, width: int, k: int, seconds: float, options: argparse.Namespace) -> None:
    """Ten rounds of nine-neighbour clustering of random features, by each implementation."""
    import torch

    from spx_cli.methods import _association as association
    from spx_cli.methods._association import Grid, plain

    where = torch.device(options.device)
    rows = max(1, int((k * height / width) ** 0.5))
    grid = Grid(height, width, rows, k // rows)
    features = torch.randn(1, 20, height, width).to(where).to(memory_format=torch.channels_last)
    row = {"what": "clustering", "size": f"{width}x{height}", "k": grid.cells, "rounds": 10}
    with torch.inference_mode():
        found = clock(lambda: association.cluster_labels(features, grid, 10), options.device, seconds)
        fused = association.fused_kernels(where)
        keep(options, **row, kind="triton" if fused else "compiled", **found)
        hard = clock(lambda: association.nearest_labels(features, grid, 6), options.device, seconds)
        keep(options, **row, kind="hard, 6 rounds", **hard)
        centres = association.initial_centres(features, grid)
        found = clock(lambda: plain.cluster(features, centres, grid, 10), options.device, seconds)
        keep(options, **row, kind="plain torch", **found)


def time_stages(name: str, images: list[Any], k: int, options: argparse.Namespace) -> None:
    """Milliseconds per image and thread of what the CPU does."""
    from spx_cli.io import read_image, write_image, write_labels
    from spx_cli.methods import create

    method = create(name, device=options.device)
    spent = dict.fromkeys(("prepare", "complete", "finish", "write", "read"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            if turn == 1:
                spent = dict.fromkeys(spent, 0.0)
            for image in images:
                points = [time.perf_counter()]
                method.prepare(image, k)
                points.append(time.perf_counter())
                (task,) = method.tasks([image], k)
                between = time.perf_counter()
                assignment = task()
                points.append(points[-1] + time.perf_counter() - between)
                between = time.perf_counter()
                labels = method.finish(assignment, k // 2)
                points.append(points[-1] + time.perf_counter() - between)
                between = time.perf_counter()
                write_labels(Path(folder, "labels.png"), labels)
                points.append(points[-1] + time.perf_counter() - between)
                write_image(Path(folder, "image.jpg"), image)
                between = time.perf_counter()
                read_image(Path(folder, "image.jpg"))
                points.append(points[-1] + time.perf_counter() - between)
                for stage, a, b in zip(spent, points, points[1:], strict=False):
                    spent[stage] += 1000 * (b - a) / len(images)
    keep(options, what=name, kind="CPU ms per image", **spent)


def slic_times(options: argparse.Namespace) -> None:
    guarded(options, "slic", lambda: _slic_times(options))


def _slic_times(options: argparse.Namespace) -> None:
    import torch

    from spx_cli import device
    from spx_cli.methods import _slic_cuda, create
    from spx_cli.methods._association import Grid
    from spx_cli.methods._graphs import Graphs
    from spx_cli.methods._grid import grid_shape
    from spx_cli.methods._tensors import scaled_inputs, stack, tensor_to_lab

    height, width, k = (96, 144, 24) if options.quick else (960, 1280, 1000)
    (image,), where = photos(options, height, width, 1), torch.device(options.device)
    grid, graphs, seconds = (
        Grid(height, width, *grid_shape((height, width), k)),
        Graphs(),
        0.1 if options.quick else 1.0,
    )
    infer = partial(_slic_cuda.infer, grid=grid, compactness=18.0, iterations=5)
    row = {"what": "slic", "size": f"{width}x{height}", "k": k}
    with device.turn(where), torch.inference_mode():
        x = stack([image], where)
        keep(options, **row, kind="device, eager", **clock(lambda: infer(x), options.device, seconds))
        keep(
            options,
            **row,
            kind="Lab",
            **clock(lambda: scaled_inputs(tensor_to_lab(x), 0.1, 0.1), options.device, seconds),
        )
        if where.type == "cuda":
            for _ in range(2):
                graphs.run("x", infer, x)
            keep(
                options,
                **row,
                kind="device, graph",
                **clock(lambda: graphs.run("x", infer, x), options.device, seconds),
            )
    for name in (options.device, "cpu"):
        method = create("slic", device=name)
        keep(options, **row, kind=f"assign, {name}", **clock(lambda m=method: m.assign(image, k), name, seconds))
        keep(options, **row, kind=f"segment, {name}", **clock(lambda m=method: m.segment(image, k), name, seconds))
    maps = [create("slic", device=name).assign(image, k).labels for name in (options.device, "cpu")]
    keep(options, **row, kind="pixels alike on CPU", share=float((maps[0] == maps[1]).mean()))


def folder(options: argparse.Namespace) -> None:
    """Images per second of a folder, reading and writing included; and of small files that are only written."""
    from spx_cli.io import write_image
    from spx_cli.io.files import atomic

    def write(path: Path) -> None:
        with atomic(path) as temporary:
            temporary.write_bytes(bytes(6000))

    with tempfile.TemporaryDirectory() as place:
        begun, count = time.perf_counter(), 600
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, [Path(place, f"{i}.bin") for i in range(count)]))
        rate = count / (time.perf_counter() - begun)
        keep(options, what="folder", kind="6 kB written and synced by 16 threads", **{"files/s": rate})
        pictures = sorted((options.data / "images").rglob("*.jpg")) if options.data and not options.quick else []
        if not pictures:
            for i, image in enumerate(photos(options, 96, 144, 12)):
                pictures.append(Path(place, f"{i}.png"))
                write_image(pictures[-1], image)
        source = Path(place, "in")
        for i in range(60 if options.quick else 1500):  # many, for processes take seconds to start
            (source / str(i // 500)).mkdir(parents=True, exist_ok=True)
            copy(pictures[i % len(pictures)], source / str(i // 500) / f"{i}{pictures[0].suffix}")
        for name, jobs, precision in FOLDERS:
            out = Path(place, f"{name}{jobs}{precision}")
            guarded(options, f"folder {name}", partial(_folder, options, name, jobs, precision, source, out))


def _folder(options: argparse.Namespace, name: str, jobs: int, precision: str, source: Path, out: Path) -> None:
    from spx_cli.batch.engine import segment_files
    from spx_cli.methods import create

    method, size = create(name, device=options.device), 16 if jobs > 1 else 64
    if precision:
        method = replace(method, precision=precision)  # type: ignore[call-arg]
    begun = time.perf_counter()
    run = segment_files(method, [source], out, n_segments=200, batch_size=size, jobs=jobs)
    ends = [time.perf_counter() - begun for record in run if record.status == "done"]
    early, late = len(ends) // 10, 9 * len(ends) // 10
    row = {"batch": size, "processes": jobs, "precision": precision, "first after s": ends[0]}
    row |= {"images/s": len(ends) / ends[-1], "amid the run": (late - early) / (ends[late] - ends[early])}
    keep(options, what=f"folder of {len(ends)}, {name}", **row)


def scores(options: argparse.Namespace) -> None:
    """What rougher arithmetic costs: mean scores over images of the validation split and their annotations."""
    from spx_cli.datasets import open_dataset
    from spx_cli.device import each
    from spx_cli.methods import create
    from spx_cli.metrics import score

    if options.data is None:
        print("no data to score on: --data")
        return
    data = open_dataset("bsds500", options.data, "val")
    samples = [data[i] for i in range(0, len(data), 50 if options.quick else 3)]
    for name in LEARNED:
        for precision in ("float32", "tf32", "bfloat16"):
            method = create(name, device=options.device, precision=precision)

            def one(sample: Any, method: Any = method) -> list[Any]:
                return score(method.segment(sample.image, 200), sample.truths, metrics=["asa", "br"])

            rows = [row for found in each(method.where, one, samples) for row in found]
            means = {metric: statistics.fmean(row[metric] for row in rows) for metric in ("asa", "br")}
            keep(options, what=f"{name} on {len(samples)} images", k=200, precision=precision, **means)


def train_rate(name: str, options: argparse.Namespace) -> None:
    if options.data is None and not options.quick:
        print("no data to train on: --data")
        return
    samples, batch = training_samples(options), 2 if options.quick else 64
    guarded(options, f"train {name}", lambda: _train_rate(name, batch, samples, options))


def training_samples(options: argparse.Namespace) -> list[Any]:
    import numpy as np

    from spx_cli.datasets import Sample, open_dataset

    if options.data is None:
        blocks = np.repeat(np.repeat(np.arange(12, dtype=np.int32).reshape(3, 4), 100, 0), 120, 1)
        return [Sample(str(i), image, (blocks,)) for i, image in enumerate(photos(options, 300, 480, 3))]
    data = open_dataset("bsds500", options.data, "train")
    return [data[i] for i in range(4 if options.quick else 60)]


def _train_rate(name: str, batch: int, samples: list[Any], options: argparse.Namespace) -> None:
    import torch

    from spx_cli.methods import create
    from spx_cli.training.loop import train

    method, seconds = create(name, device=options.device), 1.0 if options.quick else 7.0
    recipe = method.recipes.get("short") or next(iter(method.recipes.values()))
    recipe = replace(recipe, batch_size=batch, validate_every=0, checkpoint_minutes=600.0)
    recipe = replace(recipe, log_every=1 if options.quick else 4)
    records, end = list[Any](), 0.0
    with tempfile.TemporaryDirectory() as out:
        run: Iterator[Any] = train(method, samples, [], recipe, Path(out))
        for record in run:  # the first one took long: algorithms were tried, graphs captured
            records.append(record)
            if len(records) == 1:
                end = time.perf_counter() + seconds
            elif time.perf_counter() > end:
                break
        late = records[len(records) // 2 :]
        step = statistics.median(record.seconds_per_step for record in late)
        row = {"what": f"train {name}", "batch": batch, "crop": recipe.crop, "crops/s": batch / step}
        row |= {"ms a step": 1000 * step, "share waiting for data": statistics.median(r.waiting for r in late)}
        if options.device.startswith("cuda"):
            row["GB"] = torch.cuda.max_memory_allocated() / 2**30
        keep(options, **row, steps=records[-1].step, loss=records[-1].loss)
        run.close()  # type: ignore[attr-defined]


def warm(name: str, options: argparse.Namespace) -> None:
    """Compile what the other parts need: numba's kernels on the CPU, Triton's on the GPU."""
    import numpy as np

    from spx_cli.methods import create

    image = photos(argparse.Namespace(data=None), 64, 96, 1)[0]
    if name == "triton":
        if options.device.startswith("cuda"):
            for learner in (*LEARNED, "slic"):
                create(learner, device=options.device).assign(image, 20)
    elif name == "training":
        from spx_cli.datasets import Sample
        from spx_cli.training.loop import train

        truth = np.repeat(np.repeat(np.arange(6, dtype=np.int32).reshape(2, 3), 32, 0), 32, 1)
        method = create("ssn", device="cpu", train_segments=9)
        recipe = replace(method.recipes["short"], crop=33, steps=2, validate_every=2, validate_counts="6")
        data = [Sample("a", image, (truth,))]
        with tempfile.TemporaryDirectory() as out:
            list(train(method, data, data, recipe, Path(out)))
    else:
        method = create(name, device="cpu")
        method.segment(image, 20)
        method.segment(image, 3000)
        method.segment(image, 20, native_count=True)


if __name__ == "__main__":
    main()
