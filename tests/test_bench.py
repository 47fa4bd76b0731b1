"""Timing in pairs, what follows from it, peers, and `spx bench` as a whole."""

import csv
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import spx_cli
from spx_cli.bench import peers, published
from spx_cli.bench.papers import complexity, open_flow, reproduce
from spx_cli.bench.peers import PEERS, Peer, installed, open_peers
from spx_cli.bench.run import spaced
from spx_cli.bench.stand import Died, Took, stand
from spx_cli.bench.sweep import COUNTS, exponent, of_size, over_counts, over_sizes, show
from spx_cli.bench.timing import Heat, Trial, combine, is_busy, race
from spx_cli.datasets import Entry, open_dataset
from spx_cli.errors import DataError, LabelError, MissingExtra, ParameterError, SpxError, UnknownName
from spx_cli.evaluation.gates import Conditions
from spx_cli.evaluation.sources import Segmenter
from spx_cli.io import write_labels
from spx_cli.methods import METHODS
from spx_cli.options import BenchOptions
from standin import StandIn

ENTRY = Entry("image", None)
IMAGE = np.zeros((20, 50, 3), np.uint8)
HEAT = Heat(4, 1e9)


class Fake:
    """A stand whose calls take the seconds that it is given, in turn; an error among them is raised."""

    def __init__(self, name, seconds, log=None, dies=False):
        self.name, self.alive, self.log, self.dies = name, True, [] if log is None else log, dies
        self.seconds = iter(seconds)
        self.images = []

    def show(self, image, entry):
        self.images.append(image.shape)

    def take(self, count):
        self.log.append(self.name)
        value = next(self.seconds)
        if isinstance(value, Exception):
            self.alive = not isinstance(value, Died)
            raise value
        return Took(value, count - 1, 10 * value)


def forever(seconds):
    while True:
        yield seconds


# Pairs


def test_each_call_stands_beside_one_of_the_reference_and_they_take_turns():
    log = []
    stands = [Fake(name, forever(1.0), log) for name in "abr"]
    trials, failures = race(stands, "r", IMAGE, ENTRY, 7, Heat(2, 1e9))
    assert "".join(log) == "abr" + "ra" + "rb" + "r" + "ar" + "br" + "r"
    assert failures == []
    assert [len(trials[name].ratios) for name in "abr"] == [2, 2, 2]


def test_a_ratio_is_to_the_call_beside_it_whatever_the_machine_does_meanwhile():
    """The machine gets slower and slower; the contender always takes twice as long as what stands beside it."""
    own = Fake("own", [9.0, 2.0, 4.0, 8.0])
    reference = Fake("ref", [9.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0])
    trials, _ = race([own, reference], "ref", IMAGE, ENTRY, 7, Heat(3, 1e9))
    assert trials["own"].ratios == [2.0, 2.0, 2.0]
    assert trials["ref"].ratios == [1.0] * 3
    assert trials["own"].seconds == [2.0, 4.0, 8.0]  # the first call, of 9 seconds, does not count
    assert (trials["own"].k, trials["own"].peak_mb, trials["own"].mpx) == (6, 80.0, 0.001)


def test_what_is_slow_is_called_less_often_but_never_too_seldom():
    trials, _ = race([Fake("slow", forever(5.0)), Fake("ref", forever(0.1))], "ref", IMAGE, ENTRY, 7, Heat(9, 1.0))
    assert len(trials["slow"].seconds) == 3
    assert len(trials["ref"].ratios) == 9


def test_who_fails_is_left_out_and_named():
    stands = [Fake("bad", [SpxError("no")]), Fake("late", [1.0, 1.0, Died("gone")]), Fake("ref", forever(1.0))]
    trials, failures = race(stands, "ref", IMAGE, ENTRY, 7, HEAT)
    assert list(trials) == ["ref"]
    assert [(f.method, f.k_requested, f.error) for f in failures] == [
        ("bad", 7, "image at 7: no"),
        ("late", 7, "image at 7: gone"),
    ]


def test_where_the_reference_dies_the_others_go_on():
    stands = [Fake("own", forever(1.0)), Fake("ref", [1.0, Died("gone")])]
    trials, failures = race(stands, "ref", IMAGE, ENTRY, 7, HEAT)
    assert [f.method for f in failures] == ["ref"]
    assert list(trials) == ["own"]
    assert len(trials["own"].seconds) >= 3
    assert trials["own"].ratios == []
    assert math.isnan(combine([trials["own"]])["ratio"])


def test_numbers_of_several_images():
    quick = Trial(0.1, [0.1, 0.2, 0.3], [1.0, 1.0, 1.0], peak_mb=5)
    slow = Trial(0.3, [0.5, 0.6, 0.7], [4.0, 4.0, 9.0], peak_mb=4)
    row = combine([quick, slow])
    assert row["ms"] == pytest.approx(400)
    assert row["ms_min"] == pytest.approx(300)
    assert row["mpx_per_s"] == pytest.approx(0.4 / 0.8)
    assert row["ratio"] == pytest.approx(2)
    assert row["spread"] == pytest.approx((0.1 / 0.2 + 0.1 / 0.6) / 2)
    assert row["peak_mb"] == 5


@pytest.mark.parametrize(
    ("seconds", "busy"),
    [
        ([1.0, 1.0, 1.05, 1.1, 1.1], False),
        ([1.0, 1.0, 1.5, 2.0, 2.0], True),  # the quartiles lie apart
        ([1.0, 9.0, 9.0, 9.0, 9.0], True),  # they do not, but hardly a call was undisturbed
    ],
)
def test_a_busy_machine_is_told(seconds, busy):
    assert is_busy(combine([Trial(0.1, seconds)])) == busy


# Scaling


@pytest.mark.parametrize("mpx", [0.0001, 0.001, 0.0123])
def test_an_image_of_a_size_has_its_shape_and_its_content(mpx):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 50, 3), np.uint8)
    made = of_size(image, mpx)
    height, width, _ = made.shape
    assert height * width == pytest.approx(mpx * 1e6, rel=0.12)
    assert width / height == pytest.approx(2.5, rel=0.15)
    rows, columns = min(20, height), min(50, width)
    assert (made[:rows, :columns] == image[:rows, :columns]).all()
    if mpx > 0.01:
        assert (made[20:40, :50] == image[::-1]).all()


def test_exponents():
    assert exponent([(1, 5), (4, 10), (16, 20)]) == pytest.approx(0.5)
    assert math.isnan(exponent([(1, 5), (4, 10)]))


def test_sizes_that_would_take_too_long_are_left_out():
    stands = [Fake("slow", forever(0.9)), Fake("fair", forever(0.36)), Fake("ref", forever(0.01))]
    steps, failures = [], []
    rows = list(
        over_sizes(
            *(stands, "ref", IMAGE, ENTRY, 9, Heat(3, 1.0, least=1)),
            largest=2.0,
            longest=2.0,
            failures=failures,
            progress=lambda: steps.append(1),
        )
    )
    sizes = {name: [row["mpx"] for row in rows if row["method"] == name] for name in ("slow", "fair", "ref")}
    assert sizes["ref"] == pytest.approx([0.15, 0.5, 1.0, 2.0], rel=0.01)
    assert sizes["fair"] == sizes["ref"]  # 0.36 s for 0.15: 1.2 s for 0.5
    assert sizes["slow"] == pytest.approx([0.15], rel=0.01)  # 0.9 s for 0.15: 3 s for 0.5
    assert (len(steps), failures) == (4, [])
    assert rows[0]["size"] == "612x245"


def test_counts_beyond_the_pixels_are_passed_over():
    rows = list(over_counts([Fake("a", forever(1.0))], "a", IMAGE, ENTRY, HEAT, failures=[], progress=lambda: None))
    assert [row["k_requested"] for row in rows] == [count for count in COUNTS if count <= 1000]


def test_images_are_spread_over_the_data():
    assert spaced(range(10), 4) == [0, 3, 6, 9]
    assert spaced(range(2), 4) == [0, 1]
    assert spaced(range(10), 1) == [0]


# Peers


@pytest.mark.parametrize("name", installed())
def test_a_peer_gives_a_map_of_about_the_count(name):
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (6, 9, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    labels = Peer(peer=name).segment(image, 50)
    assert labels.dtype == np.int32
    assert labels.shape == (96, 144)
    assert labels.min() >= 0
    assert 5 <= len(np.unique(labels)) <= 150


@pytest.mark.parametrize("name", [name for name in PEERS if name.startswith("opencv")])
@pytest.mark.parametrize(("size", "count"), [((1, 1), 1), ((1, 9), 2), ((40, 7), 3), ((20, 20), 300)])
def test_opencv_is_not_asked_for_what_it_crashes_on(name, size, count):
    with pytest.raises(ParameterError, match="OpenCV takes images of 8 pixels a side"):
        Peer(peer=name).segment(np.zeros((*size, 3), np.uint8), count)


def test_all_stands_for_what_is_installed_and_scikit_image_is():
    assert [peer.peer for peer in open_peers(("all",))] == installed()
    assert {"skimage-slic", "skimage-felzenszwalb", "skimage-watershed"} <= set(installed())


def test_a_peer_that_is_not_there_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(peers, "_is_there", lambda name: not name.startswith("fast"))
    assert "fast-slic" not in installed()
    with pytest.raises(MissingExtra, match="pip install fast-slic"):
        open_peers(("skimage-slic", "fast-slic"))
    with pytest.raises(UnknownName, match="did you mean 'skimage-slic'"):
        open_peers(("skimage-slik",))


@pytest.mark.parametrize(
    ("given", "error"),
    [(np.zeros((2, 2), np.int32), LabelError), (np.zeros((20, 50)), LabelError), (np.full((20, 50), -1), LabelError)],
)
def test_a_peer_that_gives_no_label_map_is_refused(monkeypatch, given, error):
    module = type(sys)("strange")
    module.slic = lambda image, n: given
    monkeypatch.setitem(sys.modules, "strange", module)
    monkeypatch.setitem(PEERS, "skimage-slic", "strange:slic")
    with pytest.raises(error, match="skimage-slic gave no label map"):
        Peer(peer="skimage-slic").segment(IMAGE, 5)


def test_whatever_a_peer_raises_names_it(monkeypatch):
    module = type(sys)("strange")
    module.slic = lambda image, n: 1 / 0
    monkeypatch.setitem(sys.modules, "strange", module)
    monkeypatch.setitem(PEERS, "skimage-slic", "strange:slic")
    with pytest.raises(SpxError, match="skimage-slic failed at 5: division by zero"):
        Peer(peer="skimage-slic").segment(IMAGE, 5)


# Gates


class Judged:
    """As much of a document as gates ask for."""

    at = ()
    metrics = ("asa",)
    pairs, failures = 1, ()
    header: ClassVar = {
        **{"against": "b", "threads": 1},
        **{"protocol": "stutz", "annotations": "each", "tolerance": None, "ignore_label": None},
        "methods": {"a": "", "b": "", "c": ""},
        "peers": ["c"],
    }

    def __init__(self, **ratios):
        self.summary = [{"method": name, "k_requested": 9, "asa": 0.9, "ratio": r} for name, r in ratios.items()]
        self.judged = "summary", self.summary

    def rows(self):
        return iter(())


def test_a_gate_may_be_about_one_method():
    conditions = Conditions.parse(["asa=0.5"], ["a:ratio=0.2"], None, [])
    assert conditions.metrics == ("asa", "ratio")
    report = conditions.judge(Judged(a=0.1, b=0.9))
    assert [(v.method, v.condition) for v in report.verdicts] == [
        ("a", "asa >= 0.5"),
        ("a", "ratio <= 0.2"),
        ("b", "asa >= 0.5"),
    ]
    assert report.passed
    assert not conditions.judge(Judged(a=0.3, b=0.1)).passed
    assert not conditions.judge(Judged(a=math.nan, b=0.1)).passed


def test_a_gate_about_a_method_that_does_not_run_is_refused():
    with pytest.raises(UnknownName, match="unknown method of this run 'd'"):
        Conditions.parse([], ["d:ratio=0.2"], None, []).check(Judged.header)
    with pytest.raises(ParameterError, match="--fail-under makes no sense for ratio; less is better"):
        Conditions.parse(["a:ratio=0.2"], [], None, [])


def test_a_ratio_may_get_so_much_worse_than_the_baseline(tmp_path):
    before = {"schema": 1, "summary": Judged(a=0.1, c=0.5).summary, **Judged.header}
    (tmp_path / "run.json").write_text(json.dumps(before))
    judge = partial(Conditions.parse([], [], tmp_path / "run.json", ["a:ratio=0.05", "c:ratio=0.2"]).judge)
    assert judge(Judged(a=0.14, c=0.69)).passed
    assert not judge(Judged(a=0.16, c=0.5)).passed
    assert not judge(Judged(a=0.1, c=0.71)).passed


def test_a_peer_is_judged_where_it_is_named():
    run = Judged(a=0.1, c=0.9)
    assert Conditions.parse(["asa=0.5"], [], None, []).judge(run).verdicts[1:] == ()
    assert not Conditions.parse(["c:asa=0.95"], [], None, []).judge(run).passed
    assert not Conditions.parse([], ["c:ratio=0.8"], None, []).judge(run).passed
    header = {**Judged.header, "methods": {"c": ""}, "against": "c"}
    with pytest.raises(ParameterError, match="name the peer"):
        Conditions.parse(["asa=0.5"], [], None, []).check(header)


def test_a_ratio_to_itself_is_no_gate():
    with pytest.raises(ParameterError, match="no method of this run could fail by b:ratio"):
        Conditions.parse([], ["b:ratio=1.01"], None, []).check(Judged.header)
    report = Conditions.parse([], ["ratio=0.5"], None, []).judge(Judged(a=0.1, b=1.0))
    assert [v.method for v in report.verdicts] == ["a"]


@pytest.mark.parametrize("other", [{"against": "a"}, {"threads": 2}])
def test_ratios_to_another_reference_or_with_other_threads_are_not_compared(tmp_path, other):
    before = {"schema": 1, "summary": Judged(a=0.1, c=0.5).summary, **Judged.header}
    (tmp_path / "run.json").write_text(json.dumps(before | other))
    about = partial(Conditions.parse, [], [], tmp_path / "run.json")
    with pytest.raises(ParameterError, match=f"the baseline was made with {next(iter(other))}"):
        about(["a:ratio=0.05"]).check(Judged.header)
    about(["asa=0.1"]).check(Judged.header)  # scores do not depend on it


# All of it


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(1, 255, (24, 32, 3), np.uint8)).save(tmp_path / f"data/images/{name}.png")
        write_labels(tmp_path / f"data/labels/{name}.png", np.repeat([[0, 1]], 24, 0).repeat(16, 1).astype(np.int32))
    return ("--data", "data")


def test_a_run_with_a_peer(spx, data):
    arguments = ("-m", "standin", "--peer", "skimage-slic", "-k", 4, "-k", 16, "--against", "skimage-slic")
    more = ("--repeats", 3, "--timed", 2, "--metric", "asa,ev", "--html", "page.html", "--csv", "run.csv")
    code, out, err = spx("bench", *data, *arguments, *more, "--json", "--fail-over", "ratio=1e9", "-q")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["passed"]
    assert [(row["method"], row["k_requested"]) for row in document["summary"]] == [
        *(("standin", 4), ("standin", 16), ("skimage-slic", 4), ("skimage-slic", 16))
    ]
    for row in document["summary"]:
        assert row["ms"] >= row["ms_min"] > 0
        assert row["mpx_per_s"] == pytest.approx(24 * 32 / 1e3 / row["ms"], rel=1e-6)
        assert 10 < row["peak_mb"] < 1e5
        assert row["ratio"] == 1 or row["method"] == "standin"
    assert [row["k"] for row in document["summary"][:2]] == [4, 16]
    assert [(row["method"], row["k"]) for row in document["at"]][:2] == [("standin", 4), ("standin", 16)]
    assert document["peers"] == ["skimage-slic"]
    assert document["against"] == "skimage-slic"
    assert document["bench"]["timed"] == ["a", "c"]
    assert document["threads"] == 1
    assert [(row["size"], row["images"], row["calls"]) for row in document["speed"]][:2] == [("32x24", 2, 6)] * 2
    assert [gate["method"] for gate in document["gates"]] == ["standin"] * 2
    with Path("run.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [(row["method"], row["k_requested"]) for row in told][1:3] == [("standin", "16"), ("skimage-slic", "4")]
    assert [float(row["ratio"]) for row in told] == [row["ratio"] for row in document["summary"]]
    assert [float(row["asa"]) for row in told] == [row["asa"] for row in document["summary"]]
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('data-name="skimage-slic"') > 10
    assert page.count('<button type="button" class="shot"') == 3 * 2
    assert "4 regions, asa 0." in page
    assert "http" not in page.replace("http://www.w3.org", "")
    # the peer's curve reaches beyond the counts asked for; that is not shown
    assert {row["k_requested"] for row in document["rows"]} == {2, 4, 16, 32}


def test_a_process_that_dies_is_told_and_never_called_again():
    blue = np.zeros((24, 32, 3), np.uint8)
    with stand(Segmenter("standin", StandIn(), (4,), False, "standin"), 1) as here:
        here.show(blue, ENTRY)
        took = here.take(4)
        assert took.k == 4
        assert took.seconds > 0
        assert took.peak_mb > 10
        blue[..., 2] = 255  # the stand-in dies of it
        failures = []
        assert show([here], blue, ENTRY, failures) == [here]
        with pytest.raises(Died, match="the process of standin died: out of memory"):
            here.take(4)
        assert show([here], blue, ENTRY, failures) == []
        assert failures == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "name what to run on: --data DIR, or --images DIR"),
        (("--data", "data", "--images", "data"), 2, "name what to run on"),
        (("--data", "nowhere"), 1, "no such folder: nowhere"),
        (("--data", "empty"), 3, "empty is empty"),
        (("--images", "data/images", "--layout", "voc"), 2, "--layout: for --data"),
        (("--data", "data", "-m", "slik"), 2, "did you mean 'slic'?"),
        (("--data", "data", "--against", "snic"), 2, "unknown contender of this run 'snic'"),
        (("--data", "data", "-m", "slic", "-m", "snic", "-p", "compactness=3"), 2, "-p sets a parameter of one method"),
        (("--data", "data", "--fail-over", "snic:ratio=2"), 2, "unknown method of this run 'snic'"),
        (("--data", "data", "--repeats", "2"), 2, "--repeats"),
        (("--data", "data", "--preset", "paper"), 2, "did you mean 'papers'?"),
        (("--data", "data", "--preset", "papers"), 1, "no BSDS500 data in data"),
        (("--data", "data", "--preset", "papers", "-k", 5), 2, "--preset says which counts"),
        (("--data", "data", "--preset", "papers", "--flow", "empty"), 1, "empty"),
        (("--data", "data", "--flow", "empty"), 2, "folders of flow are for the preset papers"),
        (("--data", "data", "--device", "cuda:77", "-m", "sin"), 2, "cuda:77"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(spx, data, tmp_path, arguments, code, said):
    (tmp_path / "empty").mkdir()
    result = spx("bench", *arguments)
    assert result.code == code
    assert result.out == ""
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_tables_of_papers_stand_beside_ours(data, tmp_path):
    flow = tmp_path / "flow"
    for folder in ("other-data", "other-gt-flow"):
        (flow / folder / "A").mkdir(parents=True)
    Image.fromarray(np.zeros((24, 50, 3), np.uint8)).save(flow / "other-data/A/frame10.png")
    head = b"PIEH" + np.array([50, 24], "<i4").tobytes()
    field = np.zeros((24, 50, 2), "<f4")
    field[12:] = 2  # the stand-in's bands for 100 are no wider than half a row, so that none has both flows
    (flow / "other-gt-flow/A/flow10.flo").write_bytes(head + field.tobytes())

    speed = [{"method": "standin", "k_requested": k, "k": k, "ms_min": 2.0 * k, "asa": 0.9} for k in (50, 100)]
    speed += [{"method": "sin", "k_requested": k, "k": k, "ms_min": 1.0 * k} for k in (50, 100)]
    dataset = open_dataset("folder", tmp_path / "data")
    found = reproduce([StandIn()], dataset, speed, BenchOptions(limit=2), 1, [flow])
    assert found.failures == []
    tables = {table.title: table for table in found.tables}
    assert list(tables) == [
        "LNS-Net, Table 1",
        "SEN, Table I",
        "SSN, Table 1",
        "Curves of SSN, SIN, RIM and SEN",
        "SIN, Fig. 4",
        "SSN, Fig. 8b: Middlebury",
    ]
    assert all(len(row) == len(table.head) for table in found.tables for row in table.rows)
    (row,) = tables["LNS-Net, Table 1"].rows
    bands, right = np.arange(768) * 100 // 768, np.arange(768) % 32 // 16
    best = np.maximum(
        np.bincount(bands[right == 0], minlength=100), np.bincount(bands[right == 1], minlength=100)
    ).sum()
    assert row[:5] == ("standin", None, pytest.approx(best / 768), None, 200.0)
    assert tables["SEN, Table I"].rows[0][3:] == (None, 100.0)
    wide = dict(row[::2] for row in tables["SSN, Table 1"].rows)
    assert wide["standin"] > 0
    assert wide["SEAL-ERS"] is None
    assert tables["SIN, Fig. 4"].rows == [
        ("standin", 100.0, 200.0, None, "2 to 2"),
        ("sin", 50.0, 100.0, "1", "1 to 1"),
    ]
    (row,) = tables["SSN, Fig. 8b: Middlebury"].rows
    assert row == ("standin", 0, 0, 0, 0)
    with pytest.raises(DataError, match=r"no Middlebury data in .*; no Sintel data in"):
        open_flow(tmp_path / "data")


def test_published_numbers_are_of_methods_that_we_have():
    for table in (published.LNSNET, published.SEN, published.SSN, published.SIN):
        assert table.keys() <= METHODS.keys()
    assert [row["k"] for row in published.SSMAMBA] == sorted(row["k"] for row in published.SSMAMBA)


def test_the_count_of_operations_is_that_of_the_layers():
    image = np.zeros((64, 96, 3), np.uint8)
    assert complexity(spx_cli.create("slic"), image) == (None, None)
    elm = spx_cli.create("elm")
    own = sum(p.numel() for p in elm.network.parameters()) / 1000
    assert complexity(elm, image)[1] == pytest.approx(own + complexity(spx_cli.create("fcn"), image)[1])
    gmac, weights = complexity(spx_cli.create("lnsnet"), image)
    assert weights == pytest.approx(11.218)  # the paper prints 11.22
    assert gmac == pytest.approx(1.15 * 64 * 96 / (481 * 321), rel=0.1)  # which prints 1.15 for 481x321


def test_images_that_cannot_be_read_are_named_and_others_timed(spx, data, tmp_path):
    (tmp_path / "data/images/a.png").write_bytes(b"no picture")
    code, out, err = spx("bench", *data, "-m", "standin", "--timed", 1, "--repeats", 3, "--metric", "asa", "--json")
    document = json.loads(out)
    assert code == 1
    assert "a.png: not a picture" in err
    assert document["bench"]["timed"] == ["b"]
    assert document["summary"][0]["ms"] > 0


def test_eval_knows_no_time(spx, data):
    code, _, err = spx("eval", *data, "-m", "standin", "--fail-over", "ratio=1")
    assert code == 2
    assert "unknown metric 'ratio'" in err


def test_scaling_is_told_with_its_exponents(spx, data):
    scaling = ("--scaling", "--largest", 1, "--repeats", 3, "--timed", 1, "--seconds", 0, "--metric", "k")
    code, out, err = spx("bench", *data, "-m", "slic", "-k", 9, *scaling, "--json", "run.json")
    assert code == 0
    document = json.loads(Path("run.json").read_text())
    assert [row["mpx"] for row in document["sizes"]] == pytest.approx([0.15, 0.5, 1.0], rel=0.01)
    assert [row["k_requested"] for row in document["counts"]] == [count for count in COUNTS if count <= 768]
    (row,) = document["exponents"]
    assert -5 < row["over_pixels"] < 5
    assert -5 < row["over_count"] < 5
    head, told = (line.split("\t") for line in out.splitlines()[:2])
    assert head == ["method", "pixels", "count"]
    assert told == ["slic", f"{row['over_pixels']:.2f}", f"{row['over_count']:.2f}"]
    assert "Scaling: The powers of pixels" in err
