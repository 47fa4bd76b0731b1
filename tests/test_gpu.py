"""What runs on CUDA, against the CPU; skipped where there is none. About a minute on an H100.

SPX_GPU_DATA, or .gpu/BSDS500 beside src, or ../shared names the real images; without them those tests are skipped.
"""

import os
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pictures import quadrants
from spx_cli.batch.engine import segment_files
from spx_cli.errors import OutOfMemory, TrainingError, WeightsError
from spx_cli.io import read_image, write_image
from spx_cli.methods import METHODS, create
from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid, compiled, plain
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._torch import TorchMethod
from spx_cli.regions import maps
from spx_cli.training.loop import train
from test_association import GRIDS, chain
from trainee import samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LEARNED = [name for name in METHODS if create(name).kind == "learned"]
every_learned = pytest.mark.parametrize("name", LEARNED)
ROOT = Path(__file__).parents[1]


@cache
def ready(name: str, device: str = "cuda"):
    """The method with its network loaded; skips where no weights are bundled."""
    method = create(name, device=device)
    if isinstance(method, TorchMethod):
        try:
            _ = method.network
        except WeightsError as error:
            pytest.skip(str(error))
    return method


@pytest.fixture(scope="module")
def photos():
    folders = [os.environ.get("SPX_GPU_DATA"), ROOT / ".gpu/BSDS500", ROOT.parent / "shared/data/BSDS500"]
    for folder in folders:
        found = sorted(Path(folder).rglob("images/*/*.jpg")) if folder else []
        if found:
            return [read_image(path) for path in found[:: max(1, len(found) // 20)][:20]]
    return pytest.skip("no real images: set SPX_GPU_DATA")


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture of soft blobs with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(1, height // 24), max(1, width // 24), generator=generator) * 255
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    fine += 6 * torch.randn(fine.shape, generator=generator)
    return fine.clamp(0, 255).byte()[0].permute(1, 2, 0).contiguous().numpy()


def same_regions(one: np.ndarray, other: np.ndarray) -> float:
    """Share of pixels in regions that both maps have, paired by their largest overlap."""
    table = np.zeros((one.max() + 1, other.max() + 1), np.int64)
    np.add.at(table, (one, other), 1)
    best = table.argmax(1)
    mutual = table.argmax(0)[best] == np.arange(len(best))
    return float(table[np.arange(len(best)), best][mutual].sum() / one.size)


@pytest.mark.parametrize("name", [*LEARNED, "slic"])
@pytest.mark.parametrize(
    ("size", "n"),
    [((1, 1), 1), ((1, 30), 7), ((30, 1), 30), ((2, 2), 3), ((33, 64), 40), ((64, 33), 1), ((20, 30), 600)],
)
def test_the_contract(name, size, n):
    image = smooth(*size)
    before, method = image.copy(), ready(name)
    # The first call runs the network, the second captures it as a graph, the third replays that.
    found = [method.segment(image, n) for _ in range(3)]
    maps.check(found[0])
    assert found[0].max() + 1 == n
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(image, before)


@every_learned
def test_the_same_bytes_twice(name, photos):
    method = ready(name)
    alone = [method.segment(image, 200) for image in photos[:3]]
    again = pickle.loads(pickle.dumps(method))
    for image, labels in zip(photos[:3], alone, strict=True):
        assert np.array_equal(again.segment(image, 200), labels)
    batches = [method.segment_batch([photos[0], photos[0][::-1].copy()], 150) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*batches, strict=True))


@pytest.mark.parametrize("name", ["sin", "fcn", "ssn"])
def test_a_single_image_replays_a_graph(name):
    assert association.fused_kernels(torch.device("cuda")), "Triton does not work here"
    method = create(name, device="cuda")
    for k in (20, 30):
        for _ in range(3):
            method.segment(smooth(60, 90), k)
    assert len(method.graphs) == 2


@every_learned
def test_cpu_and_cuda_agree_on_photos(name, photos, capsys):
    """In float32, and with the finishing stage; printed, since nobody else can measure it."""
    cpu, cuda, raw, finals = ready(name, "cpu"), ready(name), [], []
    for image in photos:
        assignments = [method.assign(image, 250) for method in (cpu, cuda)]
        raw.append(float((assignments[0].labels == assignments[1].labels).mean()))
        finals.append(same_regions(*(cpu.finish(a, 200) for a in assignments)))
    with capsys.disabled():
        print(f"\n{name}: same label {min(raw):.5f} at least, {np.mean(raw):.5f} on average;", end=" ")
        print(f"finished regions {min(finals):.5f} at least, {np.mean(finals):.5f} on average")
    assert min(raw) > 0.995
    assert np.mean(finals) > 0.98


@every_learned
@pytest.mark.parametrize("size", [(1, 500), (33, 64), (2000, 1500)])
def test_cpu_and_cuda_agree_at_odd_sizes(name, size):
    image = smooth(*size, seed=1)
    cpu, cuda = (ready(name, where).assign(image, 40).labels for where in ("cpu", "cuda"))
    assert (cpu == cuda).mean() > 0.995


@pytest.mark.parametrize("name", ["sin", "fcn", "ssn"])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rougher_arithmetic_is_near(name, precision, photos, capsys):
    exact, rough = ready(name), create(name, device="cuda", precision=precision)
    same = [float((exact.assign(i, 250).labels == rough.assign(i, 250).labels).mean()) for i in photos[:5]]
    with capsys.disabled():
        print(f"\n{name} in {precision}: same label {np.mean(same):.5f}")
    assert np.mean(same) > (0.97 if precision == "tf32" else 0.85)


def fresh() -> int:
    return int.from_bytes(os.urandom(4), "little")


@pytest.mark.parametrize("channels", [5, 20])
@pytest.mark.parametrize("grid", [*GRIDS, Grid(321, 481, 16, 25), Grid(150, 90, 1, 1)], ids=str)
def test_triton_labels_are_those_of_the_cpu(grid, channels):
    seed, fused = fresh(), association.fused_kernels(torch.device("cuda"))
    assert fused, "Triton does not work here"
    features = 2 * torch.randn(2, channels, grid.height, grid.width, generator=torch.Generator().manual_seed(seed))
    for iterations in (1, 4):
        start = association.initial_centres(features, grid)
        soft = compiled.cluster_labels(features, start, grid, iterations)
        hard = plain.nearest_labels(features.double(), start.double(), grid, iterations)
        for layout in (torch.contiguous_format, torch.channels_last):
            x = features.cuda().to(memory_format=layout)
            # Within rounding two centres may be equally near; k-means goes on from there.
            assert (fused.cluster_labels(x, grid, iterations).cpu() != soft).float().mean() < 2e-3, seed
            assert (fused.cluster_labels(x, grid, iterations, hard=True).cpu() != hard).float().mean() < 5e-3, seed
            once, twice = (fused.cluster_labels(x, grid, iterations) for _ in range(2))
            assert torch.equal(once, twice)
    scores = torch.rand(2, 11, grid.height, grid.width, generator=torch.Generator().manual_seed(seed))
    wanted = association.hard_labels(scores[:, :9].contiguous(), grid)
    assert torch.equal(fused.hard_labels(scores.cuda(), grid).cpu(), wanted)
    assert torch.equal(association.hard_labels(scores[:, :9].cuda().to(memory_format=layout), grid).cpu(), wanted)


@pytest.mark.parametrize("labels", [4, 200])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_soft_association_and_its_gradients_are_those_of_the_cpu(grid, labels):
    seed = fresh()
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 7, grid.height, grid.width, generator=generator)
    truth = torch.randint(-1, labels, (2, grid.height, grid.width), generator=generator)
    wanted = chain(torch.float32, features, truth, grid, 3)
    got = chain(torch.float32, features.cuda(), truth.cuda(), grid, 3)
    under = chain(torch.float32, features.cuda(), truth.cuda(), grid, 3, amp=True)
    for a, b, c in zip(wanted, got, under, strict=True):
        scale = a.norm().clamp(min=1e-3)
        assert (b.cpu() - a).norm() / scale < 1e-3, seed
        assert (c.cpu() - a).norm() / scale < 1e-3, seed


def draw_on_the_cpu(monkeypatch, network):
    """Let random tensors come from the CPU's generator, wherever they are wanted; nothing is dropped at random."""
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *size, device=None, **kinds: rand(*size, **kinds).to(device or "cpu"))
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, dtype=x.dtype).to(x.device))
    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0


@every_learned
def test_one_training_step_has_the_loss_and_gradients_of_the_cpu(name, monkeypatch):
    method = create(name, device="cpu")
    crop = next(iter(method.recipes.values())).crop or 96
    torch.manual_seed(0)
    network = method.build().train()
    draw_on_the_cpu(monkeypatch, network)
    image, truth = quadrants(crop, crop, (crop // 3, crop // 2))
    images = torch.from_numpy(np.stack([image, image[::-1]])).permute(0, 3, 1, 2)
    teacher = method.teacher()
    seen = [truth, truth[::-1]]
    if teacher is not None:  # learns from images alone
        seen = [teacher(view, np.random.default_rng(0)) for view in (image, image[::-1].copy())]
    truths = torch.from_numpy(np.stack(seen))
    truths = truths if truths.is_floating_point() else truths.long()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    found = []
    for where in ("cpu", "cuda"):
        network.load_state_dict(state)
        network.to(where).zero_grad()
        torch.manual_seed(1)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            loss = method.loss(network, images.to(where), truths.to(where))
            loss.backward()
        gradient = torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])
        found.append((loss.item(), gradient.double()))
    (loss, gradient), (other, theirs) = found
    assert other == pytest.approx(loss, rel=1e-3)
    assert (theirs - gradient).norm() / gradient.norm() < 1e-3


RECIPE = Recipe(steps=4, batch_size=2, optimizer="muon", lr=1e-3, ema=0.9, clip=1.0, crop=32, log_every=1)


def losses(out, device, recipe=RECIPE, **options):
    method = create("fcn", device=device)
    return [record.loss for record in train(method, samples(), [], recipe, out, **options)]


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_checkpoint_goes_on_on_the_other_device(tmp_path, first, second):
    straight = losses(tmp_path / "straight", "cpu")
    begun = losses(tmp_path / "run", first, replace(RECIPE, steps=2))
    assert begun == pytest.approx(straight[:2], rel=1e-2)
    assert losses(tmp_path / "run", second, resume=True) == pytest.approx(straight[2:], rel=1e-2)


@pytest.mark.parametrize("amp", ["none", "tf32", "bf16"])
def test_training_with_validation(tmp_path, amp):
    recipe = replace(RECIPE, amp=amp, validate_every=2, validate_counts="4,6", batch_size=4)
    records = list(train(create("fcn", device="cuda"), samples(), samples(2), recipe, tmp_path))
    assert 0 < records[-1].asa <= 1
    assert (tmp_path / "best.safetensors").exists()
    # what a segmentation left behind must serve training: validated, then trained on
    method = create("ssn", device="cuda", train_segments=9)
    records = list(train(method, samples(), samples(2), replace(recipe, crop=33), tmp_path / "ssn"))
    assert records[-1].step == 4


def test_a_loss_that_is_not_a_number_names_its_batch_a_step_late(tmp_path, monkeypatch):
    method = create("fcn", device="cuda")
    loss, calls = type(method).loss, iter(range(100))
    monkeypatch.setattr(type(method), "loss", lambda *a: loss(*a) * (float("nan") if next(calls) == 2 else 1))
    with pytest.raises(TrainingError, match=r"step 2: loss nan.* s\d:\d, s\d:\d"):
        list(train(method, samples(), [], replace(RECIPE, log_every=100, checkpoint_minutes=0), tmp_path))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] <= 3


@pytest.fixture
def little_memory():
    """Leave this process 96 MB more than it holds."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (96 << 20)) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_too_little_memory_says_what_helps(little_memory, spx, tmp_path):
    image = smooth(1100, 1300)
    method = create("ssn", device="cuda")
    with pytest.raises(OutOfMemory, match=r"2 images of 1100 x 1300.*--batch-size"):
        method.segment_batch([image, image], 100)
    with pytest.raises(OutOfMemory, match=r"an image of 1100 x 1300.*precision=bfloat16"):
        method.segment(image, 100)
    with pytest.raises(OutOfMemory, match=r"256 samples.*--batch-size"):
        losses(tmp_path / "run", "cuda", replace(RECIPE, batch_size=256, crop=208))
    write_image(tmp_path / "large.png", image)
    result = spx("segment", "large.png", "-m", "ssn", "--device", "cuda", "-o", "out.png")
    assert result.code == 1
    assert "large.png: not enough GPU memory" in result.err
    assert not (tmp_path / "out.png").exists()
    torch.cuda.set_per_process_memory_fraction(1.0)
    maps.check(method.segment(image, 100))


def test_a_folder_overlaps_gpu_and_cpu(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(40):
        write_image(tmp_path / "in" / f"{i}.png", smooth(*((60, 90), (90, 60))[i % 2], seed=i))
    for name in ("sin", "slic"):
        method = create(name, device="cuda")
        out = tmp_path / name
        found = list(segment_files(method, [tmp_path / "in"], out, n_segments=20, batch_size=4))
        assert [record.status for record in found] == ["done"] * 40
        assert {record.k for record in found} == {20}
