"""The command line as users start it, and a picture for it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path, size=(24, 32), seed=0):
    rng = np.random.default_rng(seed)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def process(*args, **options):
    """spx as users start it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    return subprocess.Popen([sys.executable, "-m", "spx_cli", *map(str, args)], env=environment, **options)
