"""Files of data sets, made up."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from spx_cli.datasets.flow import MAGIC

SIZE = (24, 32)


def picture(path, value=0, size=SIZE, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


def ids(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def halves(left=0, right=1, size=SIZE):
    labels = np.full(size, left, np.int32)
    labels[:, size[1] // 2 :] = right
    return labels


def write_flow(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = np.float32(MAGIC).tobytes() + np.array(flow.shape[1::-1], "<i4").tobytes()
    path.write_bytes(head + flow.astype("<f4").tobytes())


def write_mat(path, *truths):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(truths)), object)
    for i, truth in enumerate(truths):
        cells[0, i] = {"Segmentation": truth.astype(np.uint16), "Boundaries": np.zeros(truth.shape, np.uint8)}
    savemat(path, {"groundTruth": cells}, do_compression=True)
