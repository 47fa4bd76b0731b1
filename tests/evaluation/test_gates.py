"""Gates, and what a baseline allows."""

import json
import math

import pytest

from spx_cli.errors import FormatError, ParameterError
from spx_cli.evaluation.document import Document, Failure
from spx_cli.evaluation.gates import Conditions


def document(**scores):
    header = {
        "methods": {"m": ""},
        "metrics": list(scores),
        "protocol": "stutz",
        "annotations": "each",
        "tolerance": None,
    }
    header |= {"ignore_label": None, "data": {"root": "x"}}
    summary = [{"method": "m", "k_requested": 4, "k": 4.0, **scores}]
    return Document(
        header=header,
        summary=summary,
        at=[],
        failures=[],
        pairs=1,
        dataset=None,
        records=lambda: iter([]),
        sources=(),
    )


@pytest.mark.parametrize(
    ("under", "over", "passed"),
    [
        (["asa=0.95"], [], True),
        (["asa=0.9500000000000001"], [], False),
        (["asa=0.94999", "br=0.8"], [], False),
        ([], ["ue_np=0.1"], True),
        ([], ["ue_np=0.0999999999"], False),
        (["k=4"], ["k=4"], True),
        (["mde=0"], [], None),
        ([], ["mde=3"], False),
    ],
)
def test_unrounded_values_decide(under, over, passed):
    scores = document(asa=0.95, br=0.7, ue_np=0.1, mde=math.nan)
    if passed is None:
        with pytest.raises(ParameterError, match="less is better, use --fail-over"):
            Conditions.parse(under, over, None, [])
        return
    assert Conditions.parse(under, over, None, []).judge(scores).passed is passed


@pytest.mark.parametrize("text", ["asa", "asa=", "asa=high", "asa=nan", "asa=inf", "aza=1", "=1"])
def test_limits_are_checked(text):
    with pytest.raises(ParameterError):
        Conditions.parse([text], [], None, [])


def test_a_gate_on_nothing_fails():
    empty = document(asa=math.nan)
    empty.pairs = 0
    assert not Conditions.parse(["asa=0"], [], None, []).judge(empty).passed


@pytest.fixture
def baseline(tmp_path):
    def write(**row):
        path = tmp_path / "base.json"
        head = {"schema": 1, "protocol": "stutz", "annotations": "each", "tolerance": None, "ignore_label": None}
        path.write_text(json.dumps(head | {"summary": [{"method": "m", "k_requested": 4, "k": 4.0} | row]}))
        return path

    return write


@pytest.mark.parametrize(
    ("old", "slack", "passed"),
    [
        ({"asa": 0.95, "ue_np": 0.1}, [], True),
        ({"asa": 0.9500001, "ue_np": 0.1}, [], False),
        ({"asa": 0.95, "ue_np": 0.0999}, [], False),
        ({"asa": 0.952, "ue_np": 0.0}, ["asa=0.003"], True),
        ({"asa": 0.952, "ue_np": 0.0}, ["asa=0.001"], False),
        ({"ue_np": 0.09}, ["ue_np=0.011"], True),
        ({"ue_np": 0.09}, ["ue_np=0.011", "asa=0.1"], False),
        ({"asa": None}, ["asa=0.1"], False),
        ({"asa": 0.1, "ue_np": 0.2, "k_requested": 5}, [], False),
        ({"asa": 0.1, "ue_np": 0.2, "method": "n"}, [], False),
    ],
)
def test_the_baseline_allows_no_more_than_its_tolerance(baseline, old, slack, passed):
    conditions = Conditions.parse([], [], baseline(**old), slack)
    assert conditions.judge(document(asa=0.95, ue_np=0.1)).passed is passed


def test_a_baseline_under_other_settings_is_refused(baseline):
    path = baseline(asa=0.9)
    path.write_text(path.read_text().replace("stutz", "sen"))
    with pytest.raises(ParameterError, match="made with protocol 'sen', this run with 'stutz'"):
        Conditions.parse([], [], path, []).judge(document(asa=0.95))


@pytest.mark.parametrize(
    ("data", "message"), [({"images": 6}, "of 6 images, this run of 2"), ({"range": [0, 9]}, r"range \[0, 9\]")]
)
def test_a_baseline_of_other_data_is_refused(baseline, data, message):
    path = baseline(asa=0.9)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data}))
    scored = document(asa=0.95)
    scored.header["data"]["images"] = 2
    with pytest.raises(ParameterError, match=message):
        Conditions.parse([], [], path, []).judge(scored)


def test_a_baseline_of_the_same_data_is_taken(baseline):
    path = baseline(asa=0.9)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"root": "y", "range": [0, 9], "images": 2}}))
    scored = document(asa=0.95)
    scored.header["data"] |= {"images": 2, "range": (0, 9)}
    assert Conditions.parse([], [], path, ["asa=0"]).judge(scored).passed


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"schema": 1, "summary": 3}', '{"schema": 99, "summary": []}', "[" * 100_000, "\xff"),
        *('{"schema": 1, "summary": [3]}', '{"schema": 1, "summary": [{"asa": 1}]}', '{"schema": 1, "at": []}'),
        *(
            f'{{"schema": 1, "summary": [], "at": [{{"method": "m", "asa": {x}}}]}}'
            for x in ('"1"', "true", "NaN", "[]")
        ),
        f'{{"schema": 1, "summary": [{{"method": "m", "k_requested": {10**400}}}]}}',
        *(f'{{"schema": 1, "summary": [], {x}}}' for x in ('"metrics": 3', '"peers": [[]]', '"data": []')),
    ],
)
def test_a_baseline_of_something_else_is_named(tmp_path, text):
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(FormatError, match=r"base\.json"):
        Conditions.parse([], [], tmp_path / "base.json", [])


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        ("--fail-under", ["asa=0.999", "asa=0.1"]),
        ("--fail-over", ["m:mde=1", "m:mde=2"]),
        ("--tolerance", ["asa=0"] * 2),
    ],
)
def test_a_gate_that_is_given_twice_is_refused(baseline, option, texts):
    options = ("--fail-under", "--fail-over", "--tolerance")
    under, over, slack = (texts if option == one else [] for one in options)
    with pytest.raises(ParameterError, match=f"{option} .*= is given twice"):
        Conditions.parse(under, over, baseline(asa=0.9), slack)


def told(path, scores, **parts):
    """The conditions that fail beside a baseline that also says `parts`."""
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    report = Conditions.parse([], [], path, []).judge(scores)
    return [f"{v.method} {v.k_requested} {v.condition}" for v in report.verdicts if not v.passed]


def test_what_the_run_lacks_fails_beside_the_baseline(baseline):
    rows = [{"method": method, "k_requested": k, "asa": 0.9} for method, k in (("m", 4), ("m", 9), ("n", 4))]
    failed = told(baseline(), document(asa=0.95), summary=rows)
    assert failed == ["m 9 scored here as in the baseline", "n 4 scored here as in the baseline"]
    assert told(baseline(asa=0.9, br=0.5), document(asa=0.95), metrics=["asa", "br"]) == ["m 4 br in this run"]
    rows = [{"method": "m", "k_requested": 9, "asa": 0.9}]
    failed = told(baseline(), document(asa=0.95), summary=rows)
    assert failed == ["m 4 scored in the baseline as here", "m 9 scored here as in the baseline"]


def test_means_over_fewer_pairs_than_the_baselines_fail(baseline):
    rows = [{"method": "m", "k_requested": 4, "image": name, "asa": 0.9} for name in "ab"]
    scores = document(asa=0.95)
    scores.records = lambda: iter([rows[:1]])
    assert told(baseline(asa=0.9), scores, rows=rows) == ["m 4 scored on as many pairs as the baseline, 2"]
    scores.records = lambda: iter([rows])
    assert told(baseline(asa=0.9), scores, rows=rows) == []


def test_contours_at_other_thresholds_are_not_compared(baseline):
    with pytest.raises(ParameterError, match="made with thresholds 5, this run with None"):
        told(baseline(asa=0.9), document(asa=0.95), thresholds=5)


def test_failures_beyond_those_allowed_fail_the_run():
    scores = document(asa=0.95)
    scores.failures = [Failure("a", None, None, "broken")] * 2
    conditions = Conditions.parse([], [], None, [])
    assert not conditions.judge(scores, 1).passed
    assert conditions.judge(scores, 2).passed
