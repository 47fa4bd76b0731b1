"""Plants one mistake at a time in a copy of the tree and runs the tests that should notice: python tests/mutations.py.

A mistake that no test notices is a test to write. Words after the command choose mistakes by what stands in them; the
table goes to standard output, and the command fails where more than one in ten goes unnoticed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/spx_cli")
PATIENCE = 900  # seconds


class Mutation(NamedTuple):
    """In a file below src/spx_cli `before` stands once and becomes `after`; `tests`, below tests/, should fail."""

    file: str
    before: str
    after: str
    tests: str


MUTATIONS = (
    # Methods
    Mutation("methods/slic.py", "d = colour * (dl", "d = np.float32(0.3) * colour * (dl", "test_slic.py"),
    Mutation("methods/slic.py", "half = int(np.ceil(spacing))", "half = int(np.ceil(spacing)) // 2", "test_slic.py"),
    Mutation("methods/slic.py", "top += (first - top) % step", "top += 0", "test_slic.py"),
    Mutation("methods/slic.py", "totals[k, 3] += n * y", "totals[k, 3] += n * (y + 1)", "test_slic.py"),
    Mutation("methods/slic.py", "weight[k] = 1 / largest[k]", "weight[k] = 4 / largest[k]", "test_slic.py"),
    Mutation(
        "methods/_snic.py", "key[0] = per_area * (dy", "key[0] = np.float32(0.5) * per_area * (dy", "test_snic.py"
    ),
    Mutation("methods/_snic.py", "centre[k, c] += share * (pixel", "centre[k, c] -= share * (pixel", "test_snic.py"),
    Mutation("methods/lsc.py", "total[11] += n * y", "total[11] += n * x", "test_lsc.py"),
    Mutation("methods/lsc.py", "+ mean[5] * tile[5, i]", "+ mean[5] * tile[4, i]", "test_lsc.py"),
    Mutation("methods/lsc.py", "half = np.float32(0.5) * (centre", "half = np.float32(0.25) * (centre", "test_lsc.py"),
    Mutation("methods/seeds.py", "size[own] -= area", "size[own] += area", "test_seeds.py"),
    Mutation("methods/seeds.py", "if value < best_value:", "if value > best_value:", "test_seeds.py"),
    Mutation(
        "methods/etps.py",
        "change -= length * _held(lattice, i, j, other) + leaving",
        "change -= leaving",
        "test_etps.py",
    ),
    Mutation("methods/etps.py", "if change < best_change:", "if change > best_change:", "test_etps.py"),
    Mutation("methods/ers.py", "gain -= (a - w) * np.log(a - w)", "gain += (a - w) * np.log(a - w)", "test_ers.py"),
    Mutation("methods/fh.py", "limit[a] = weight[e] + scale / size[a]", "limit[a] = scale / size[a]", "test_fh.py"),
    Mutation("methods/sh.py", "mean[group, c] += n * mean[r, c]", "mean[group, c] += mean[r, c]", "test_sh.py"),
    Mutation(
        "methods/scalp.py", "path, peak = path + color, max(peak,", "path, peak = color, max(peak,", "test_scalp.py"
    ),
    Mutation(
        "methods/mslic.py",
        "row += np.sqrt((1 + across) * (1 + along) - mixed * mixed)",
        "row += np.sqrt((1 + across) * (1 + along))",
        "test_mslic.py",
    ),
    Mutation("methods/watershed.py", "if level < lowest:", "if level > lowest:", "test_watershed.py"),
    Mutation(
        "methods/base.py",
        "return min(ceil(factor * n_segments), pixels)",
        "return ceil(factor * n_segments)",
        "test_contract.py -k degenerate",
    ),
    Mutation(
        "methods/_association/plain.py", "- near.square().sum(-1)[..., None]  # minus", "# minus", "test_association.py"
    ),
    Mutation(
        "methods/ssn.py",
        "Grid(height, width, min(rows, height), min(columns, width))",
        "Grid(height, width, min(columns, height), min(rows, width))",
        "test_ssn.py",
    ),
    Mutation(
        "methods/sin.py",
        "torch.where(lead >= 0, labels[..., :-1]",
        "torch.where(lead < 0, labels[..., :-1]",
        "test_sin.py",
    ),
    Mutation("methods/_association/__init__.py", "compactness * grid.rows / grid.height", "compactness", "test_fcn.py"),
    Mutation("methods/_spixelnet.py", "% grid.columns + place[1] // CELL", "% grid.columns", "test_fcn.py"),
    Mutation("methods/fcn.py", "_REACH = 96", "_REACH = 32", "test_fcn.py"),
    Mutation("methods/elm.py", "smaller = size if scale >= 1 else", "smaller = size if scale > 0 else", "test_elm.py"),
    Mutation("methods/elm.py", "contours[-1] = cells.contours", "contours[0] = cells.contours", "test_elm.py"),
    Mutation("__main__.py", '"OMP_WAIT_POLICY" not in', '"OMP_WAIT_POLICY" in', "test_architecture.py"),
    Mutation(
        "methods/_merging.py", "    if made_for != seen:", "    if made_for[:2] != seen[:2]:", "test_merge_weights.py"
    ),
    Mutation("methods/_contours.py", "border[other] |= differs", "border[other] |= False", "test_contours.py"),
    Mutation("color.py", "scale * np.float32(500) * (fx - fy)", "scale * np.float32(500) * (fy - fx)", "test_color.py"),
    # Label maps
    Mutation("regions/runs.py", "found += row[x] != row[x - 1]", "found += row[x] > row[x - 1]", "test_maps.py"),
    Mutation("regions/runs.py", "region[max(a, b)] = min(a, b)", "region[min(a, b)] = max(a, b)", "test_maps.py"),
    Mutation(
        "regions/maps.py",
        "across &= counted[:, 1:] & counted[:, :-1]",
        "across &= counted[:, 1:]",
        "test_metrics.py test_metrics_properties.py",
    ),
    Mutation("regions/graph.py", "border[e] += right - left", "border[e] += 1", "test_graph.py"),
    Mutation("regions/merging.py", "best, least = b, distance", "best, least = min(b, count), 0.0", "test_merging.py"),
    Mutation("regions/merging.py", "sums[best] += sums[a]", "sums[best] += 0 * sums[a]", "test_merging.py"),
    Mutation(
        "regions/merging.py", "contour[kept] += contour[lost]", "contour[kept] -= contour[lost]", "test_merging.py"
    ),
    Mutation("regions/merging.py", "palette[a] += palette[b]", "palette[a] += 0", "test_merging.py"),
    Mutation("regions/merging.py", "outline[b] - 2 * between", "outline[b] - between", "test_merging.py"),
    Mutation("regions/merging.py", "        tail[a] = before", "        pass", "test_merging.py"),
    Mutation("training/loop.py", "if writes and not kept:", "if False:", "training -k stops_asking"),
    Mutation(
        "training/processes.py",
        "        with random, _as_ever():\n",
        "        with _as_ever():\n",
        "training -k stops_asking",
    ),
    Mutation(
        "training/processes.py", "set_default_dtype(torch.float32)", "get_default_dtype()", "training -k another_type"
    ),
    Mutation(
        "evaluation/ledger.py",
        "                if end == 0:\n                    _check_torn",
        "                if False:\n                    _check_torn",
        "evaluation -k no_file_of_results",
    ),
    Mutation(
        "evaluation/ledger.py", "if os.path.samestat(", "if True or os.path.samestat(", "evaluation -k replaces_as"
    ),
    Mutation("methods/_torch.py", "if found != asked != field.default", "if False", "test_weights.py -k shape"),
    Mutation("regions/graph.py", "if not np.isfinite(sums).all():", "if False:", "test_finish.py -k finite"),
    Mutation("pool.py", "while pending:", "if pending:", "test_pool.py -k put_off"),
    Mutation("regions/costs.py", "np.float32(sums[r, FRAME]) / side", "np.float32(0) / side", "test_merging.py"),
    Mutation("regions/graph.py", "of[16 * k + 4 * m + n] += 1", "of[16 * k + 4 * m] += 1", "test_graph.py"),
    Mutation("regions/graph.py", "(2 * y - start[j]) % 4", "(y - start[j]) % 4", "test_graph.py"),
    Mutation("regions/costs.py", "np.sqrt(n * np.sqrt(n)) * strength", "n * strength", "test_merging.py"),
    Mutation(
        "regions/costs.py",
        "- np.float32(price * length)",
        "+ np.float32(price * length)",
        "test_merging.py",
    ),
    Mutation("regions/finish.py", "absorb(graph, int(SMALL * area)", "absorb(graph, int(0 * area)", "test_finish.py"),
    Mutation("regions/finish.py", "SMALL = 0.06", "SMALL = 0.6", "test_finish.py"),
    Mutation("regions/finish.py", "np.argsort(-size / parts", "np.argsort(size / parts", "test_finish.py"),
    Mutation("regions/overlays.py", "(2 * sums[i, c] + n) // (2 * n)", "sums[i, c] // n", "test_overlays.py"),
    # Metrics
    Mutation(
        "metrics/region.py",
        "np.minimum(table.count, table.pair_sizes - table.count)",
        "np.maximum(table.count, table.pair_sizes - table.count)",
        "test_metrics.py",
    ),
    Mutation(
        "metrics/region.py",
        "20 * table.count > sizes",
        "20 * table.count >= sizes",
        "test_metrics.py test_metrics_properties.py test_metrics_reference.py",
    ),
    Mutation(
        "metrics/boundary.py", "hits + match.label_pixels - match.label_hits", "match.label_pixels", "test_metrics.py"
    ),
    Mutation(
        "metrics/boundary.py",
        "length, done = 2 * radius + 1, 1",
        "length, done = 2 * radius, 1",
        "test_metrics.py test_metrics_properties.py",
    ),
    Mutation(
        "metrics/boundary.py",
        "row[x + 1] = min(row[x + 1], other[x] + DIAGONAL)",
        "row[x + 1] = min(row[x + 1], other[x] + STRAIGHT)",
        "test_metrics.py test_metrics_properties.py",
    ),
    Mutation("metrics/shape.py", "sides[ids[height - 1, x]] += 1", "sides[ids[height - 1, x]] += 0", "test_metrics.py"),
    Mutation(
        "metrics/color.py",
        "square + float(y) * y * (x - first)",
        "square + float(y) * (x - first)",
        "test_metrics.py test_metrics_properties.py",
    ),
    Mutation(
        "metrics/summary.py",
        "max(values) if sign > 0 else min(values)",
        "min(values) if sign > 0 else max(values)",
        "test_metrics.py evaluation -k 'polic or combin or best'",
    ),
    Mutation(
        "contours/thinning.py",
        "if crossings != 1 or pairs not in (2, 3)",
        "if crossings > 2 or pairs not in (2, 3)",
        "test_contours_benchmark.py",
    ),
    Mutation(
        "contours/matching.py",
        "price[e] = costs[k]",
        "price[e] = costs[0]",
        "test_contours_benchmark.py",
    ),
    Mutation(
        "contours/nms.py",
        "np.arctan2(-2 * xy, yy - xx) / 2",
        "np.arctan2(2 * xy, yy - xx) / 2",
        "test_contours_benchmark.py",
    ),
    Mutation(
        "contours/hierarchy.py",
        "ultrametric[2 * y + 1, 2 * x + 2] <= level",
        "ultrametric[2 * y + 1, 2 * x + 2] < level",
        "test_docs.py -k docstrings",
    ),
    # Files, batches and scores
    Mutation("io/files.py", "if target.read_bytes() == temporary.read_bytes():", "if True:", "batch -k came_to_be"),
    Mutation("batch/engine.py", "files_digest(task.outputs()) == entry.written and", "", "batch -k another_content"),
    Mutation("evaluation/gates.py", "before is not None and before != images", "False", "evaluation -k other_data"),
    Mutation(
        "training/state.py", "k in then and k in now and then[k] != now[k]", "False", "test_cli_train.py -k resumed"
    ),
    Mutation("io/codec.py", "samples.max()) > top:", "samples.max()) > 2 * top:", "test_io_damaged.py -k declared"),
    Mutation("device.py", "// (_CORES_PER_PROCESS if on_gpu else 1)", "// 1", "test_device.py"),
    Mutation(
        "io/scale.py",
        "flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)",
        "flip_y, flip_x = orientation in (3, 4, 6, 7), orientation in (2, 3, 7, 8)",
        "test_io.py -k orient",
    ),
    Mutation(
        "io/ids.py", "told = [band for band in bands if band.any()] or bands", "told = bands[:1]", "test_io_labels.py"
    ),
    Mutation(
        "io/labels.py",
        'if values.dtype.kind in "if" and (lowest := values.min()) < 0:',
        'if values.dtype.kind in "i" and (lowest := values.min()) < 0:',
        "test_io_labels.py test_io_hostile.py",
    ),
    Mutation(
        "io/files.py",
        "if line != b'[\"%08x\", %s]\\n' % (zlib.crc32(text), text):",
        'if not line.endswith(b"\\n"):',
        "batch -k damaged",
    ),
    Mutation(
        "datasets/companions.py",
        "if self._suits[name] <= 1 for path",
        "for path",
        "evaluation -k 'maps or map'",
    ),
    Mutation(
        "datasets/nyuv2.py",
        "(image.shape[1] - WIDTH) // 2",
        "(image.shape[1] - WIDTH) // 2 + 1",
        "test_datasets.py -k nyu",
    ),
    Mutation("batch/plan.py", "if place in writers:", "if place in inputs:", "batch -k collide"),
    Mutation(
        "batch/engine.py",
        "entry and entry.recipe == recipe and _is_done",
        "entry and _is_done",
        "batch -k resume",
    ),
    Mutation(
        "batch/engine.py",
        "job.digest(task, content(task)) == entry.digest",
        "bool(entry.digest)",
        "batch -k resume",
    ),
    Mutation("batch/engine.py", "failures > most", "failures >= most", "batch -k max_failures"),
    Mutation("batch/flow.py", "len(loaded.made) == len(loaded.parts)", "loaded.made", "batch -k parts"),
    Mutation("training/loop.py", 'about["validated"] = val', "_ = val", "test_cli_train.py -k same_images"),
    Mutation("evaluation/ledger.py", "claim(file.fileno(), place)", "pass", "evaluation -k another_run"),
    Mutation("evaluation/work.py", "if options.rows or options.resume:", "if True:", "evaluation -k may_run_twice"),
    Mutation("evaluation/gates.py", 'if method == row["method"] or', "if True or", "test_bench.py -k gate"),
    Mutation("evaluation/gates.py", "if names and n < m:", "if False:", "evaluation -k fewer_pairs"),
    Mutation(
        "evaluation/gates.py",
        'yield _verdict(row, "scored here',
        '_verdict(row, "scored here',
        "evaluation",
    ),
    Mutation("evaluation/gates.py", "(everybody and not reference)", "everybody", "test_bench.py -k ratio_to_itself"),
    Mutation("evaluation/gates.py", "everybody = not method and", "everybody = not method or", "test_bench.py -k peer"),
    Mutation("params.py", "if name in values:", "if False:", "test_cli.py -k wrong_usage"),
    Mutation("cli/_options.py", "not (one.multiple or one.is_flag)", "False", "test_cli.py -k last_value"),
    Mutation(
        "methods/base.py",
        "check_assignment(assignment, image",
        "(assignment, image",
        "test_contract.py -k fit_the_image",
    ),
    Mutation(
        "methods/_torch.py",
        'copy = copy._bound_to(self.__dict__["_bound"], where)',
        "pass",
        "test_weights.py -k kept",
    ),
    Mutation(
        "device.py",
        "torch.autocast(device.type, enabled=False)",
        "torch.enable_grad()",
        "test_weights.py -k others_ask",
    ),
    Mutation(
        "errors.py",
        "while isinstance(cause, SystemError)",
        "if isinstance(cause, SystemError)",
        "test_cli.py -k ends_alike",
    ),
    Mutation(
        "evaluation/gates.py",
        "sign * (row[name] - bound) >= 0",
        "row[name] - bound >= 0",
        "evaluation -k baseline",
    ),
    Mutation(
        "evaluation/gates.py",
        "bound = was - sign * slack",
        "bound = was + sign * slack",
        "evaluation -k baseline",
    ),
    Mutation(
        "evaluation/work.py",
        'not ledger[entry.id]["digest"] == subject_of(entry).digest() != ""',
        'not ledger[entry.id]["digest"]',
        "evaluation -k 'scored_again'",
    ),
    Mutation(
        "evaluation/scoring.py",
        "indices = [i for i in range(len(sample.truths)) if i not in blank]",
        "indices = list(range(len(sample.truths)))",
        "evaluation -k labelled",
    ),
    Mutation("params.py", 'value <= rule["gt"]', 'value < rule["gt"]', "test_cli_train.py"),
    # Training
    Mutation("training/augment.py", "near[::-1] if flip else near", "near", "test_augment.py"),
    Mutation(
        "training/augment.py",
        "_permutation(seed, position // count, count)[position % count]",
        "_permutation(seed, 0, count)[position % count]",
        "test_augment.py",
    ),
    Mutation("methods/_muon.py", "beta=-4.7750", "beta=4.7750", "test_muon.py"),
    Mutation(
        "training/loop.py",
        "(1 + math.cos(math.pi * fall))",
        "(1 - math.cos(math.pi * fall))",
        "training -k rate",
    ),
    Mutation(
        "training/state.py",
        '"rng": torch.get_rng_state(),\n            "cuda',
        '"rng": torch.Generator().get_state(),\n            "cuda',
        "training -k 'alike'",
    ),
    Mutation(
        "training/samples.py",
        "range(first, first + recipe.batch_size)",
        "range(first + 1, first + 1 + recipe.batch_size)",
        "training -k positions",
    ),
    Mutation("weights/__init__.py", "if owner != method:", 'if owner == "":', "test_weights.py"),
    Mutation(
        "reports/charts.py",
        "limits[1], floor, TOP",
        "limits[1], TOP, floor",
        "test_reports.py",
    ),
    # Benchmark
    Mutation(
        "bench/timing.py",
        "trial.ratios.append(own / beside)",
        "trial.ratios.append(beside / own)",
        "test_bench.py -k 'beside or slow or fails or dies'",
    ),
    Mutation(
        "bench/timing.py",
        "reference_first=number % 2 == 0",
        "reference_first=True",
        "test_bench.py -k 'beside or slow or fails or dies'",
    ),
    Mutation(
        "bench/timing.py",
        "k = stand.take(count).k",
        "k = trials.setdefault(stand.name, Trial(mpx)).add(stand.take(count))",
        "test_bench.py -k 'beside or slow or fails or dies'",
    ),
    Mutation("bench/timing.py", "number >= heat.least and", "", "test_bench.py -k 'beside or slow or fails or dies'"),
    Mutation("bench/timing.py", "geometric_mean(ratios)", "fmean(ratios)", "test_bench.py -k numbers"),
    Mutation(
        "bench/timing.py",
        "sum(trial.mpx for trial in trials) / sum(medians)",
        "sum(medians)",
        "test_bench.py -k numbers",
    ),
    Mutation("bench/sweep.py", 'mode="symmetric"', 'mode="edge"', "test_bench.py -k size"),
    Mutation("bench/sweep.py", "* mpx <= longest", "<= longest", "test_bench.py -k sizes"),
    Mutation("bench/run.py", "2 * max(counts)", "max(counts)", "test_bench.py -k test_a_run"),
    Mutation("bench/papers.py", "get_total_flops() / 2e9", "get_total_flops() / 1e9", "test_bench.py -k operations"),
    Mutation("reports/charts.py", "v > 0 or not log", "True", "test_reports.py -k logarithmic"),
    Mutation("reports/bench.py", "opacity = 255 - (white", "opacity = (white", "test_reports.py -k lines"),
)


def run(mutations: Sequence[Mutation] = MUTATIONS) -> Iterator[tuple[Mutation, str]]:
    """Yield each mutation with the test that noticed it, '' where none did.

    RuntimeError where the tests fail without any.
    """
    with tempfile.TemporaryDirectory() as folder:
        sound, broken = Path(folder, "sound"), Path(folder, "broken")
        shutil.copytree(ROOT, sound, ignore=shutil.ignore_patterns(".*", "shared"))
        for tests in dict.fromkeys(mutation.tests for mutation in mutations):
            if failed := first_failure(sound, tests):
                raise RuntimeError(f"{failed} fails in a sound tree")
        for mutation in mutations:
            shutil.copytree(sound, broken)
            plant(mutation, broken)
            yield mutation, first_failure(broken, mutation.tests)
            shutil.rmtree(broken)


def plant(mutation: Mutation, tree: Path) -> None:
    """Change the file, and forget the machine code of all kernels that may hold a copy of what it defines."""
    path = tree / PACKAGE / mutation.file
    path.write_text(path.read_text().replace(mutation.before, mutation.after))
    module = path.relative_to(tree / "src").with_suffix("").as_posix().replace("/", ".")
    for user in (tree / PACKAGE).rglob("*.py"):
        if user == path or module in user.read_text():
            for code in (user.parent / "__pycache__").glob(f"{user.stem}.*.nb[ic]"):
                code.unlink()


def first_failure(tree: Path, tests: str) -> str:
    """Return the first test that fails in a tree, or what else ended them; '' where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "SPX_SHARED": str(tree)}
    try:
        done = subprocess.run(
            command, cwd=tree / "tests", env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"no end of {tests}"
    if done.returncode <= 0:
        return f"signal {-done.returncode} in {tests}" if done.returncode else ""
    failed = [
        line.split(" - ")[0].split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))
    ]
    if not failed:
        raise RuntimeError(f"pytest {tests}: {done.stdout}{done.stderr}")
    return failed[0]


def main(words: Sequence[str]) -> int:
    """Print the table; return how the command ends."""
    chosen = [one for one in MUTATIONS if not words or any(word in " ".join(one) for word in words)]
    caught = 0
    for mutation, test in run(chosen):
        caught += bool(test)
        print(f"{test or 'NOT NOTICED'}\t{mutation.file}\t{mutation.before!r}\t->\t{mutation.after!r}", flush=True)
    print(f"{caught} of {len(chosen)} noticed")
    return int(caught < 0.9 * len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
