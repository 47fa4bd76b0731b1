import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from spx_cli.memory import keep_freed
if sys.argv[1] == "keep":
    keep_freed()
def once():
    arrays = [np.ones(20 << 20, np.uint8) for _ in range(6)]
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_freed_memory_is_not_faulted_in_again():
    faults = [
        int(subprocess.run([sys.executable, "-c", ROUNDS, mode], capture_output=True, text=True, check=True).stdout)
        for mode in ("leave", "keep")
    ]
    assert faults[1] < 0.1 * faults[0]
