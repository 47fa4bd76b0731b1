import numpy as np
import pytest

from spx_cli.methods._unlabelled import unlabelled

LABELS = np.zeros((20, 30), np.int32)


def test_edges_lie_where_colours_change():
    image = np.zeros((20, 30, 3), np.uint8)
    assert unlabelled(LABELS, image).contours.max() == 0
    image[:, 15:] = (200, 40, 40)
    edges = unlabelled(LABELS, image).contours
    assert edges.dtype == np.float32
    assert set(edges.argmax(1)) <= {14, 15}
    assert 0.5 < edges.max() < 1
    assert edges[:, :8].max() == edges[:, 22:].max() == 0
    assert unlabelled(LABELS, image, edges=False).contours is None
    known = np.zeros((20, 30), np.float32)
    assignment = unlabelled(LABELS, image, contours=known)
    assert assignment.contours is known
    assert not assignment.edges


def test_colours_have_deviation_one_and_positions_three():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    space = unlabelled(LABELS, image).features
    np.testing.assert_allclose(space.std((0, 1)), [1, 1, 1, 3, 3], rtol=1e-4)
    np.testing.assert_allclose(space[..., :3].mean((0, 1)), 0, atol=1e-4)
    assert (np.diff(space[..., 3], axis=0) > 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 30)])
def test_grey_has_no_colour_and_nothing_is_infinite(size):
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8), 3, axis=2)
    space = unlabelled(np.zeros(size, np.int32), grey).features
    assert np.isfinite(space).all()
    assert abs(space[..., 1:3]).max() < 0.01
