from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spx_cli.cli import run
from spx_cli.contours.guide import open_guide
from spx_cli.datasets import Sample
from spx_cli.errors import ParameterError
from spx_cli.methods import create, lnsnet
from spx_cli.methods._association import Grid, neighbours
from spx_cli.methods._gradient import sobel
from spx_cli.methods.lnsnet import LNSNet
from spx_cli.metrics import score
from spx_cli.training.loop import train
from spx_cli.training.samples import Pairs, make_batch, open_samples
from spx_cli.weights import provenance, read_checkpoint

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _one_thread():
    """Images are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(size=(40, 56), seed=0, contrast=90):
    """Three blocks of colour under noise, and which pixel lies in which."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(size, np.int32)
    truth[:, size[1] // 2 :] = 1
    truth[size[0] // 3 :, : size[1] // 3] = 2
    colours = 128 + rng.permuted(np.array([[-1, 0, 1], [1, -1, 0], [0, 1, -1]]), axis=0) * contrast
    return np.clip(colours[truth] + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8), truth


def pixels(image):
    return torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2)


def fresh(**params):
    torch.manual_seed(0)
    method = create("lnsnet", device="cpu", **params)
    return method, method.build()


# ---- the authors' network


@pytest.fixture(scope="module")
def reference(shared):
    return shared / "reference/deep/lnsnet"


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", ["100007_K100_network", "100007_K100_grid", "crop_100007_81x121_K24_network"], ids=["seeds", "grid", "crop"]
)
def test_agrees_with_the_authors(shared, reference, name):
    wanted = np.load(reference / f"{name}.npz")
    crop = name.startswith("crop")
    photo = reference / "crop_100007_81x121.png" if crop else next((shared / "data/BSDS500").rglob("100007.jpg"))
    image = np.asarray(Image.open(photo))
    kind, count = name.rpartition("_")[2], 24 if crop else 100
    method = LNSNet(seeds=kind, authors=True, device="cpu")
    method = method.bind(method.fit(read_checkpoint(reference / "lnsnet_BSDS_checkpoint.npz"), "theirs"))
    labels = method.segment(image, count, raw=True)
    step = 1 if crop else 8
    with torch.inference_mode():
        features = method.network(lnsnet.standardise(pixels(image)))
        rebuilt = method.network.grm.recons(features)[0, :, ::step, ::step]
    expected = wanted["feat" if crop else "feat_sub8"]
    np.testing.assert_allclose(features[0, :, ::step, ::step].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(rebuilt.numpy(), wanted["recon" if crop else "recon_sub8"], atol=1e-5)
    y, x = lnsnet.authors_seeds(method.network, features, count, kind)
    np.testing.assert_array_equal(y, wanted["seed_row"])
    np.testing.assert_array_equal(x, wanted["seed_col"])
    assert (labels != wanted["label_raw"]).sum() <= 5


@pytest.mark.parity
def test_their_checkpoint_is_converted(reference, tmp_path, capsys):
    out = tmp_path / "theirs.safetensors"
    assert run(["weights", "convert", "lnsnet", str(reference / "lnsnet_BSDS_checkpoint.npz"), "-o", str(out)]) == 0
    assert create("lnsnet", weights=str(out)).load().grm.memory.eq(1).all()


def test_the_authors_mode_knows_bfloat16():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    labels = create("lnsnet", authors=True, precision="bfloat16", device="cpu").assign(image, 20).labels
    assert labels.shape == (40, 60)


def test_the_authors_mode_refuses_what_their_grid_cannot(tmp_path):
    method, network = fresh(authors=True)
    with pytest.raises(ParameterError, match="no grid of 100 cells for 40x4 pixels"):
        method.bind(network).segment(np.zeros((4, 40, 3), np.uint8), 100, raw=True)


# ---- losses and gradients


def naive_cluster_loss(features, seeds, grid):
    """Equations 6, 14 and 16 over all pairs of pixels and seeds, with the mask of equation 15."""
    f, s = features[0].flatten(1).T.double(), seeds[0].flatten(1).T.double()
    mask = torch.zeros(len(f), len(s), dtype=torch.float64)
    near = neighbours(grid)[grid.index.ravel()]
    for j in range(9):
        inside = np.flatnonzero(near[:, j] >= 0)
        mask[inside, near[inside, j]] = 1
    p = (1 + torch.cdist(f, s).square()) ** -0.5 * mask
    p /= p.sum(1, keepdim=True)
    q = p**2 / p.sum(0)
    q /= q.sum(1, keepdim=True)
    return (torch.xlogy(q, q) - torch.xlogy(q, p)).sum(1).mean()


@pytest.mark.parametrize("grid", [Grid(12, 17, 3, 4), Grid(9, 6, 1, 1), Grid(5, 5, 5, 5)], ids=str)
def test_cluster_loss_is_that_of_the_paper(grid):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 6, grid.height, grid.width, generator=generator)
    seeds = lnsnet.seed_features(features, grid, None)
    got = lnsnet.cluster_loss(features, seeds, grid)
    assert got.item() == pytest.approx(naive_cluster_loss(features, seeds, grid).item(), rel=1e-4, abs=1e-6)


def test_seeds_lie_in_the_middle_and_move_by_cells():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(20.0), indexing="ij")
    position = torch.stack([y, x])[None]
    grid = Grid(12, 20, 3, 4)
    middle = lnsnet.seed_features(position, grid, None)
    torch.testing.assert_close(middle[0, :, 1, 2], torch.tensor([5.5, 12.0]))
    shifts = torch.zeros(1, 2, 3, 4)
    shifts[:, 0], shifts[:, 1] = 0.5, -0.2
    torch.testing.assert_close(lnsnet.seed_features(position, grid, shifts)[0, :, 1, 2], torch.tensor([7.5, 11.0]))


def test_features_and_seeds_learn_in_turn():
    method, network = fresh(feature_steps=2, seed_steps=1)
    assert method.steps_per_batch == 3
    learned = []
    for step in range(4):
        method.before_step(network, step)
        network.zero_grad()
        method.loss(network, pixels(picture()[0]), torch.rand(1, 40, 56)).backward()
        learned.append({n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and p.grad.any()})
    assert learned == [{"embedder", "grm"}] * 2 + [{"seeds"}] + [{"embedder", "grm"}]


def test_seeds_amid_their_cells_take_no_steps():
    assert create("lnsnet", device="cpu", seeds="grid", feature_steps=2, seed_steps=1).steps_per_batch == 2


def test_the_memory_moves_and_holds_the_gradient_back():
    _, network = fresh()
    features = torch.rand(1, 20, 4, 5, requires_grad=True)
    weight = network.grm.recons.weight[:, :, 0, 0].abs()
    strength = (weight[:3].mean(0) * weight[3:].mean(0)).detach()
    rescaled = network.grm.by_channel(features, 0.25)
    assert torch.equal(rescaled, features)
    rescaled.sum().backward()
    torch.testing.assert_close(features.grad[0, :, 0, 0], strength / (strength + 1))
    torch.testing.assert_close(network.grm.memory, 0.25 * strength + 0.75)


def test_strong_contours_turn_the_gradient_of_positions_round():
    method, network = fresh(threshold=0.5)
    image, contours = pixels(picture()[0]), torch.zeros(1, 40, 56)

    def gradient(truth, rescale=True):
        network.zero_grad()
        replace(method, rescale=rescale).loss(network, image, truth).backward()
        return network.grm.recons.bias.grad.clone()

    with torch.no_grad():
        network.grm.recons.weight *= 0.01  # positions are rebuilt as their mean: a blind guess, not a worse one
    plain, faint = gradient(None), gradient(contours + 0.5)
    strong = gradient(contours + 0.75)
    torch.testing.assert_close(faint, plain)
    torch.testing.assert_close(strong[:3], plain[:3])
    torch.testing.assert_close(strong[3:], -0.75 * plain[3:])
    torch.testing.assert_close(gradient(contours + 0.75, rescale=False), plain)


def test_annotations_are_never_looked_at():
    method, network = fresh()
    image, truth = picture()
    pairs = Pairs([Sample("a", image, (truth, truth))], method.teacher())
    batch = make_batch(pairs, method.recipes["paper"], 0)
    assert (len(pairs), batch.ids) == (1, ["a"])
    np.testing.assert_array_equal(batch.truth[0], sobel(image))
    assert batch.truth.dtype == np.float32
    assert 0 < batch.truth.mean() < batch.truth.max() == 1
    assert set(np.unique(fresh(prior="canny")[0].teacher()(image, RNG))) == {0, 1}
    assert fresh(prior="none")[0].teacher()(image, RNG).max() == 0
    with pytest.raises(ParameterError, match="images alone"):
        method.loss(network, pixels(image), torch.zeros(1, 40, 56, dtype=torch.int64))


def test_reversal_ends_where_a_position_is_worse_than_guessed():
    contours, error = torch.tensor([[[0.2, 0.9, 0.9]]]), torch.zeros(1, 2, 1, 3)
    error[..., 2] = 1.8
    torch.testing.assert_close(lnsnet.reversal(contours, error, 0.7), torch.tensor([[[1.0, -0.9, 1.0]]]))


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 2), (40, 3), (3, 400)])
@pytest.mark.parametrize("kind", ["constant", "grey", "noise"])
def test_losses_and_gradients_stay_finite(size, kind):
    image = np.full((*size, 3), 77, np.uint8)
    if kind != "constant":
        image[:] = RNG.integers(0, 256, (*size, 1 if kind == "grey" else 3))
    method, network = fresh(train_cell=4)
    for step in (0, method.feature_steps):
        method.before_step(network, step)
        loss = method.loss(network, pixels(image), torch.rand(1, *size))
        loss.backward()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


# ---- maps


def test_grey_images_have_no_colour():
    grey = np.repeat(RNG.integers(0, 256, (20, 30, 1), np.uint8), 3, axis=2)
    x = lnsnet.standardise(pixels(grey))
    assert x[:, 1:3].abs().max() < 0.01
    torch.testing.assert_close(x[:, (0, 3, 4)].std((2, 3)), torch.ones(1, 3))


def test_upright_images_are_laid_down():
    image = picture((30, 70))[0]
    method, network = fresh()
    method = method.bind(network)
    lying = method.segment(image, 12, raw=True)
    upright = method.segment(np.ascontiguousarray(image.transpose(1, 0, 2)), 12, raw=True)
    assert (lying == upright.T).mean() > 0.999


def test_pixels_choose_among_the_seeds_around_them():
    method, network = fresh(seeds="grid")
    labels = method.bind(network).segment(picture((60, 90))[0], 24, raw=True)
    rows, columns = np.divmod(labels, 6)
    own_rows, own_columns = np.divmod(Grid(60, 90, 4, 6).index, 6)
    assert abs(rows - own_rows).max() <= 1
    assert abs(columns - own_columns).max() <= 1


# ---- a life of learning


def save(folder, name, image):
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / name)


@pytest.mark.parametrize("sizes", [[(34, 50)], [(30, 41), (45, 33), (28, 28)]], ids=["one image", "many sizes"])
def test_a_folder_of_images_alone(tmp_path, capsys, sizes):
    for i, size in enumerate(sizes):
        save(tmp_path / "images", f"{i}.png", picture(size, i)[0])
    options = ["-p", "feature_steps=3", "-p", "seed_steps=2", "--val-split", "none"]
    assert run(["train", "lnsnet", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "run"), *options]) == 0
    assert f"step {5 * len(sizes)}/{5 * len(sizes)}  loss" in capsys.readouterr().err
    method = create("lnsnet", weights=str(tmp_path / "run" / "last.safetensors"))
    assert method.segment(picture()[0], 9).max() == 8


def test_contours_of_files_take_the_place_of_the_prior(tmp_path, capsys):
    images, maps = [picture((34, 40), i)[0] for i in range(2)], tmp_path / "maps"
    for i, image in enumerate(images):
        save(tmp_path / "images", f"{i}.png", image)
        save(maps, f"{i}.png", np.full((34, 40), 100 * (i + 1), np.uint8))
    samples = open_samples("folder", tmp_path / "images", None, "none")
    method = create("lnsnet", device="cpu", feature_steps=2, seed_steps=1)
    pairs = Pairs(samples.train, method.teacher(), open_guide(maps))
    batches = [make_batch(pairs, method.recipes["short"], n) for n in range(2)]
    assert sorted({float(v) for batch in batches for v in np.unique(batch.truth)}) == pytest.approx(
        [100 / 255, 200 / 255]
    )
    command = ["train", "lnsnet", "--data", str(tmp_path / "images"), "--val-split", "none"]
    command += ["-p", "feature_steps=2", "-p", "seed_steps=1", "--contours", str(maps)]
    assert run([*command, "--out", str(tmp_path / "run")]) == 0
    assert provenance(tmp_path / "run" / "last.safetensors")["contours"] == str(maps)
    (maps / "1.png").unlink()
    capsys.readouterr()
    assert run([*command, "--out", str(tmp_path / "again")]) == 1
    assert "no contour map for 1" in capsys.readouterr().err
    assert run([*command[:-1], "edges", "--out", str(tmp_path / "edges")]) == 2
    assert "-p prior" in capsys.readouterr().err
    assert run(["train", "sen", *command[2:4], "--contours", str(maps), "--out", str(tmp_path / "sen")]) == 2
    assert "sen does not learn from contours" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named(tmp_path, capsys):
    save(tmp_path / "images", "good.png", picture()[0])
    (tmp_path / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert run(["train", "lnsnet", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "run")]) != 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("spx: error:")
    assert "bad.png" in last


def test_earlier_images_are_not_forgotten(tmp_path):
    """After two images of another kind, accuracy on the earlier kind is within .02 of what it was."""
    early = [Sample(f"day{i}", picture((36, 48), i)[0]) for i in range(2)]
    other = []
    for i in range(2):  # dark, with thin bright lines instead of blocks
        image = RNG.normal(30, 4, (36, 48, 3)).clip(0, 255).astype(np.uint8)
        image[:, 7 + 5 * i :: 13] = 120
        other.append(Sample(f"night{i}", image))
    start = create("lnsnet", device="cpu")

    def learn(samples, before, out):
        list(train(before, samples, [], before.recipes["paper"], out, start=before.load().state_dict()))
        return replace(before, weights=str(out / "last.safetensors"))

    def accuracy(method):
        pictures = [picture((36, 48), i) for i in range(4)]
        return np.mean([score(method.segment(image, 9), [t], metrics=["asa"])[0]["asa"] for image, t in pictures])

    then = learn(early, start, tmp_path / "day")
    now = learn(other, then, tmp_path / "night")
    assert accuracy(then) > 0.97
    assert accuracy(now) > accuracy(then) - 0.02
