import pytest
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.methods._grid import grid_seeds, grid_shape


@pytest.mark.parametrize(
    ("size", "n", "shape"),
    [
        ((321, 481), 400, (16, 25)),
        ((4096, 1), 8, (8, 1)),
        ((1, 4096), 8, (1, 8)),
        ((4096, 2), 8, (8, 1)),
        ((5, 5), 25, (5, 5)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_cells_are_about_square_and_as_many_as_asked(size, n, shape):
    assert grid_shape(size, n) == shape


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_never_finer_than_pixels_nor_far_from_the_count(height, width, data):
    n = data.draw(st.integers(1, height * width))
    rows, columns = grid_shape((height, width), n)
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    assert n / 2 <= rows * columns <= 2 * n
    seeds = grid_seeds((height, width), n)
    assert seeds.shape == (rows * columns, 2)
    assert seeds.min() >= -0.5
    assert (seeds.max(0) <= (height - 0.5, width - 0.5)).all()
