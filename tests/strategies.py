"""Hypothesis strategies for the two arrays of the contract."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def images(max_side: int = 24) -> st.SearchStrategy[np.ndarray]:
    """Any uint8 (H, W, 3) from 1x1 up, few or many colours."""
    size = st.tuples(st.integers(1, max_side), st.integers(1, max_side), st.just(3))
    few = st.sampled_from([0, 1, 127, 128, 254, 255])
    return st.one_of(
        hnp.arrays(np.uint8, size),
        hnp.arrays(np.uint8, size, elements=few),
        size.map(lambda s: np.full(s, 93, np.uint8)),
    )


def label_maps(max_side: int = 16, max_id: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Any int32 (H, W) of small ids: scattered, with gaps; not yet Labels."""
    size = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    return hnp.arrays(np.int32, size, elements=st.integers(0, max_id))
