"""The table of mutations fits the source. Whether tests notice them: `python tests/mutations.py`, or the slow test."""

from collections import Counter

import pytest

from mutations import MUTATIONS, PACKAGE, ROOT, run


def test_every_mutation_changes_one_place():
    for mutation in MUTATIONS:
        assert (ROOT / PACKAGE / mutation.file).read_text().count(mutation.before) == 1, mutation
        assert mutation.before != mutation.after
        assert (ROOT / "tests" / mutation.tests.split()[0]).exists(), mutation
    assert max(Counter(mutation[:3] for mutation in MUTATIONS).values()) == 1


def test_every_package_has_mutations():
    packages = {mutation.file.split("/")[0] for mutation in MUTATIONS}
    assert packages >= {
        "batch",
        "bench",
        "contours",
        "datasets",
        "evaluation",
        "io",
        "methods",
        "metrics",
        "regions",
        "reports",
        "training",
    }


@pytest.mark.slow
def test_nine_in_ten_mutations_are_noticed():
    unnoticed = [mutation for mutation, test in run() if not test]
    assert len(unnoticed) <= 0.1 * len(MUTATIONS), unnoticed
