import importlib
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from skimage.color import rgb2lab

from spx_cli.errors import ImageError, ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods import create, ssn
from spx_cli.methods._contours import sigmoid
from spx_cli.methods._tensors import tensor_to_lab
from spx_cli.methods._torch import fold
from trainee import assert_learns


def pixels(image):
    return torch.from_numpy(np.asarray(image).copy())[None].permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference/deep/ssn"
    network = create("ssn", contours=False).build()
    state = {k: torch.from_numpy(v) for k, v in np.load(folder / "model1667649810.npz").items()}
    network.load_state_dict(state, strict=True)
    return folder, network.eval()


def port_features(network, image, grid, count):
    """Features with the port's position scale, which counts int(sqrt(K)) cells along both axes."""
    scale = 2.5 * max(int(count**0.5) / grid.height, int(count**0.5) / grid.width)
    with torch.no_grad():
        return network(ssn.scaled_inputs(tensor_to_lab(pixels(image)), 0.26, scale))


def test_colours_and_chances_depend_on_their_pixel_alone():
    """Not on the number of threads, nor on the images of the same batch."""
    images = torch.randint(0, 256, (3, 3, 101, 67), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            lab = tensor_to_lab(images)
            found = [lab, sigmoid(lab), *(tensor_to_lab(image[None])[0] for image in images)]
            expected = expected or [lab, sigmoid(lab), *lab]
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(lab.permute(0, 2, 3, 1)[0], rgb2lab(images[0].permute(1, 2, 0).numpy()), atol=2e-4)
    np.testing.assert_allclose(sigmoid(lab), torch.sigmoid(lab), rtol=1e-6, atol=1e-30)


@contextmanager
def plain_convolutions():
    """Convolutions without oneDNN, as the reference was made; with it, features of up to 111 differ by 1.7e-4."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # said about GPUs of Intel
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@pytest.mark.parity
@pytest.mark.parametrize("iterations", [1, 10])
def test_crop_agrees_with_the_port_stage_by_stage(reference, iterations):
    folder, network = reference
    wanted = np.load(folder / f"crop_100007_81x121_K24_deep_it{iterations}.npz")
    grid = ssn.seed_grid((81, 121), 24)
    assert (grid.rows, grid.columns) == (4, 5)
    with plain_convolutions():
        features = port_features(network, Pillow.open(folder / "crop_100007_81x121.png"), grid, 24)
    np.testing.assert_allclose(features[0, -5:].numpy(), wanted["input"], atol=1e-4)
    np.testing.assert_allclose(features[0].numpy(), wanted["feat"], atol=1e-4)
    q, centres = association.cluster(features, grid, iterations)
    np.testing.assert_allclose(centres[0].flatten(1).numpy(), wanted["spixel_feat"][:, : grid.cells], atol=1e-4)
    np.testing.assert_array_equal(association.hard_labels(q, grid)[0].numpy(), wanted["label_raw"])
    dense = np.zeros((grid.cells, 81 * 121), np.float32)
    near = association.neighbours(grid)[grid.index.ravel()]
    for j in range(9):
        inside = np.flatnonzero(near[:, j] >= 0)
        dense[near[inside, j], inside] = q[0, j].flatten()[inside].numpy()
    np.testing.assert_allclose(dense, wanted["Q"][: grid.cells], atol=1e-3)


def assert_same_but_for_ties(labels, wanted, features, centres):
    """Features of C channels that agree within e move |x - a|^2 - |x - b|^2 by at most 2 |a - b| e sqrt(C)."""
    y, x = np.nonzero(labels != wanted)
    pixels, centres = features[0].double().numpy()[:, y, x], centres[0].flatten(1).double().numpy()
    ours, theirs = centres[:, labels[y, x]], centres[:, wanted[y, x]]
    gap = ((pixels - ours) ** 2).sum(0) - ((pixels - theirs) ** 2).sum(0)
    tolerance = 2 * np.linalg.norm(ours - theirs, axis=0) * 1e-4 * len(centres) ** 0.5
    assert (np.abs(gap) <= tolerance).all()


@pytest.mark.parity
@pytest.mark.parametrize("variant", ["deep", "pix"])
def test_whole_image_agrees_with_the_port(shared, reference, variant):
    folder, network = reference
    wanted = np.load(folder / f"100007_K100_{variant}.npz")
    picture = Pillow.open(next((shared / "data/BSDS500").rglob("100007.jpg")))
    grid = ssn.seed_grid(picture.size[::-1], 100)
    network = network if variant == "deep" else torch.nn.Identity()
    with plain_convolutions():
        features = port_features(network, picture, grid, 100)
    if variant == "deep":
        np.testing.assert_allclose(features[0, :, ::8, ::8].numpy(), wanted["feat_sub8"], atol=1e-4)
    q, _ = association.cluster(features, grid, 10)
    _, centres = association.cluster(features, grid, 9)  # those that the tenth association compares
    assert_same_but_for_ties(association.hard_labels(q, grid)[0].numpy(), wanted["label_raw"], features, centres)


@pytest.mark.parity
def test_losses_and_gradients_are_those_of_the_port(reference):
    folder, network = reference
    truth = torch.from_numpy(np.load(folder / "loss_gt_crop.npz")["gt"]).long()[None]
    wanted = json.loads((folder / "meta.json").read_text())["loss"]
    grid = ssn.seed_grid((81, 121), 24)
    image = pixels(Pillow.open(folder / "crop_100007_81x121.png"))
    network.zero_grad()
    features = network(ssn.scaled_inputs(tensor_to_lab(image), 0.26, 2.5 * 4 / 81))
    q, _ = association.cluster(features, grid, wanted["n_iter"])
    reconstruction, compactness = ssn.reconstruction_loss(q, truth, grid), ssn.compactness_loss(q, grid)
    assert reconstruction.item() == pytest.approx(wanted["recon"], rel=1e-4)
    assert compactness.item() == pytest.approx(wanted["compact"], rel=1e-5)
    (reconstruction + 1e-5 * compactness).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(wanted["grad_norms"][name], rel=1e-2), name


@pytest.mark.parity
def test_position_scale_is_that_of_the_paper(shared):
    wanted = json.loads((shared / "reference/deep/ssn_nvlabs/meta.json").read_text())
    for name, values in wanted.items():
        size, _, count = name.partition("_K")
        height, width = map(int, size.split("x"))
        grid = ssn.seed_grid((height, width), int(count))
        assert (grid.rows, grid.columns) == (values["k_h"], values["k_w"])
        assert ssn.position_scale(grid, 2.5) == pytest.approx(values["pos_scale"])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 50), (24, 24)])
def test_grid_never_exceeds_the_count(size):
    for count in range(1, size[0] * size[1] + 1, 7):
        grid = ssn.seed_grid(size, count)
        assert 1 <= grid.cells <= count
        assert grid.rows <= size[0]
        assert grid.columns <= size[1]


@pytest.mark.parametrize(
    ("size", "count", "cells"),
    [((100, 300), 75, (5, 15)), ((300, 100), 80, (15, 5)), ((1, 9), 4, (1, 4)), ((9, 1), 4, (4, 1))],
)
def test_cells_are_about_squares(size, count, cells):
    grid = ssn.seed_grid(size, count)
    assert (grid.rows, grid.columns) == cells


def test_folding_changes_nothing():
    torch.manual_seed(0)
    network = create("ssn").build().train()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1)
    x = torch.randn(2, 5, 21, 25)
    network(x)
    network.eval()
    with torch.no_grad():
        before = network(x)
        after = fold(network)(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_deployed_network_gives_the_same_features():
    torch.manual_seed(0)
    method = create("ssn")
    network = method.build()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1)
    x = torch.randn(2, 5, 21, 25)
    network.train()(x)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(method.bind(network).network(x), network(x), atol=1e-4, rtol=1e-4)
        rough = create("ssn", precision="bfloat16").bind(network).network(x)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, network(x), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("variant", ["deep", "linear"])
def test_a_few_steps_lower_the_loss(variant):
    assert_learns(create("ssn", variant=variant, train_segments=9), 33, lr=3e-3, steps=12)


def test_flow_is_reconstructed_by_absolute_difference():
    method = create("ssn", variant="pix", train_segments=4, compactness=0.0)
    flow = torch.zeros(1, 2, 16, 16)
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert method.loss(method.build(), images, flow).item() == 0
    flow[:, 0, :, 8:] = 3.0
    images[..., 8:] = 255
    sharp = method.loss(method.build(), images, flow).item()
    images[:] = 0
    assert sharp < method.loss(method.build(), images, flow).item()


def test_soft_superpixels_name_the_cell_of_each_weight():
    method = create("ssn", variant="pix")
    images = torch.randint(0, 256, (2, 3, 24, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    soft = method.soften(method.build(), images, 20, 3)
    assert soft.ids.shape == (9, 24, 30)
    assert soft.ids.max() == soft.grid.cells - 1
    torch.testing.assert_close((soft.q * (soft.ids >= 0)).sum(1), torch.ones(2, 24, 30))
    best = soft.ids.expand(2, -1, -1, -1).gather(1, soft.q.argmax(1, keepdim=True))[:, 0]
    assert torch.equal(best, soft.labels())
    ones = soft.unpool(soft.pool(torch.ones(2, 1, 24, 30)))
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-5, rtol=0)


def test_a_network_learns_through_superpixels(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    example = importlib.import_module("train_through_superpixels")
    torch.manual_seed(0)
    network = example.Classifier()
    images, truth = example.make_batch(2, torch.Generator().manual_seed(1))
    torch.nn.functional.cross_entropy(network(images), truth).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.features.output_conv.parameters())
    losses, right = example.main()
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    assert right > 0.8


def test_needs_truth():
    method = create("ssn")
    with pytest.raises(ParameterError, match="label maps"):
        method.loss(method.build(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None)


def test_pix_needs_no_weights_and_splits_quadrants():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, 20:], image[20:, :20], image[20:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    labels = create("ssn", variant="pix", device="cpu").segment(image, 4)
    assert (labels[:20, :20] == 0).all()
    assert (labels[:20, 20:] == 1).all()
    assert (labels[20:, :20] == 2).all()
    assert (labels[20:, 20:] == 3).all()


def test_batch_equals_one_by_one():
    method = create("ssn", device="cpu")
    images = [np.random.default_rng(i).integers(0, 256, (30, 44, 3), np.uint8) for i in range(3)]
    for one, image in zip(method.assign_batch(images, 12), images, strict=True):
        alone = method.assign(image, 12)
        np.testing.assert_array_equal(one.labels, alone.labels)
        np.testing.assert_allclose(one.features, alone.features, atol=1e-4)


def test_a_large_image_is_seen_in_pieces_that_make_the_same_map(monkeypatch):
    image = np.random.default_rng(0).integers(90, 120, (256, 336, 3)).astype(np.uint8)
    image[:, 190:] += 100
    method = create("ssn", device="cpu")
    whole = method.assign(image, 60)
    monkeypatch.setattr("spx_cli.methods._pieces._PIECE", 160)
    parts = method.assign(image, 60)
    assert (parts.labels == whole.labels).mean() > 0.999
    np.testing.assert_allclose(parts.features, whole.features, atol=1e-2)
    np.testing.assert_allclose(parts.contours, whole.contours, atol=1e-4)
    monkeypatch.setattr("spx_cli.methods.ssn._REACH", 16)
    assert np.abs(method.assign(image, 60).contours - whole.contours).max() > 1e-2


def test_images_of_floats_are_not_taken_as_black():
    method = create("ssn", device="cpu")
    network, images = method.load(), torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    assert method.soften(network, images, 6, 2).q.shape == (1, 9, 16, 24)
    for wrong in (images / 255, images[0], images[:, :1]):
        with pytest.raises(ImageError, match="images must be uint8"):
            method.soften(network, wrong, 6, 2)
    for count, rounds in ((0, 2), (6, 0), (2.5, 2)):
        with pytest.raises(ParameterError, match="must be at least 1"):
            method.soften(network, images, count, rounds)
