import io
import math
import xml.dom.minidom
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from spx_cli.regions.overlays import render
from spx_cli.reports.bench import lines
from spx_cli.reports.charts import Chart, Guide, Line, Mark, draw
from spx_cli.reports.junit import Case, write_suite
from spx_cli.reports.page import (
    Charts,
    Checks,
    Controls,
    Cut,
    Figure,
    Gallery,
    Listing,
    Note,
    Page,
    Picture,
    Section,
    Strip,
    Wall,
    clear_address,
    write_page,
)
from spx_cli.reports.tables import Table, write_csv, write_markdown

BOX = ((0, 10), (0, 1))
DIAGONAL = [(0, 0), (10, 1)]


def page(*blocks):
    file = io.StringIO()
    write_page(Page("spx", "about", None, [Section("head", blocks)], "footer"), file)
    return file.getvalue()


def test_points_lie_where_the_axes_say():
    svg = draw(Chart("about", [Line(DIAGONAL)], "x", limits=BOX, size=(380, 250)))
    assert 'points="52.0,216.0 366.0,12.0"' in svg
    assert [f'x="{x:.1f}" y="232" text-anchor="middle">{v}<' in svg for x, v in ((52, 0), (209, 5), (366, 10))] == [
        True
    ] * 3


def test_what_is_not_finite_is_left_out():
    nan = math.nan
    svg = draw(Chart("a", [Line([(0, nan), *DIAGONAL], [Mark(5, nan, "no"), Mark(5, 0.5, "yes")])], "x", limits=BOX))
    assert svg.count("<circle") == 1
    assert "nan" not in svg
    assert not Chart("a", [Line([(0, nan)])], "x")
    assert Chart("a", [Line(DIAGONAL)], "x")


@pytest.mark.parametrize("low", [-1e5, 0.1234, 3.0])
@pytest.mark.parametrize("span", [0.0, 1e-3, 7.0, 1e6])
def test_ticks_are_few_and_inside(low, span):
    svg = draw(Chart("a", [Line([(low, 0), (low + span, 1)])], "x"))
    ticks = [float(t.firstChild.data) for t in elements(svg, "text") if t.getAttribute("text-anchor") == "middle"]
    assert 2 <= len(ticks) <= 6
    assert len(set(np.diff(ticks).round(12))) == 1 or span < 1e-2


def elements(svg, name):
    return xml.dom.minidom.parseString(svg).getElementsByTagName(name)


@pytest.mark.parametrize(("low", "high"), [(3, 5), (0.004, 0.005), (4, 900), (1, 1e6), (7, 7)])
def test_ticks_of_logarithmic_axes_are_few_inside_and_where_the_points_are(low, high):
    chart = Chart("a", [Line([(low, 0), (high, 1), (0, 9), (-1, 9)])], "x", log=(True, False))
    svg = draw(chart)
    ticks = [float(t.firstChild.data) for t in elements(svg, "text") if t.getAttribute("text-anchor") == "middle"]
    assert 1 <= len(ticks) <= 7
    assert all(low / 2 <= tick <= high * 2 for tick in ticks)
    (line,) = elements(svg, "polyline")
    places = [float(point.split(",")[0]) for point in line.getAttribute("points").split()]
    assert len(places) == 2  # a logarithm of nothing has no place
    assert 52 <= places[0] <= places[1] <= 366
    assert not Chart("a", [Line([(0, 1)])], "x", log=(True, False))


def test_equal_factors_are_equal_ways_on_a_logarithmic_axis():
    svg = draw(Chart("a", [Line([(1, 0), (10, 0), (100, 1)])], "x", log=(True, False)))
    a, b, c = (float(p.split(",")[0]) for p in elements(svg, "polyline")[0].getAttribute("points").split())
    assert b - a == pytest.approx(c - b, abs=0.11)


def test_lines_beyond_the_colours_are_dashed_and_named():
    svg = draw(Chart("a", [Line(DIAGONAL, [Mark(0, 0, "m")], f"<{i}>") for i in range(9)], "x"))
    drawn = elements(svg, "polyline")
    assert [line.getAttribute("class") for line in drawn[::8]] == ["c0", "c0 again"]
    assert drawn[8].getAttribute("data-name") == elements(svg, "circle")[8].getAttribute("data-name") == "<8>"


@pytest.mark.parametrize("shades", [1, 3, 200])
def test_lines_over_a_picture_keep_their_colours_and_opacity(shades):
    picture = np.zeros((10, 20, 4), np.uint8)
    picture[:, 10:] = (255, 200, 0, 255)
    picture[5, :, 3] = np.arange(20) * shades % 256
    kind, _, data = clear_address(picture).partition(",")
    back = np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("RGBA"))
    assert kind == "data:image/png;base64"
    assert (back == picture).all()


def test_too_many_colours_become_256():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 40, 4), np.uint8)
    picture[:20] = 0
    back = Image.open(io.BytesIO(b64decode(clear_address(picture).partition(",")[2]))).convert("RGBA")
    assert back.size == (40, 40)
    assert np.asarray(back)[:20, :, 3].max() == 0


def test_the_lines_alone_over_an_image_are_what_render_draws():
    rng = np.random.default_rng(1)
    labels = np.kron(np.arange(6).reshape(2, 3), np.ones((40, 30))).astype(np.int32)
    image = rng.integers(0, 256, (*labels.shape, 3), np.uint8)
    clear = lines(labels).astype(float)
    opacity = clear[..., 3:] / 255
    over = clear[..., :3] * opacity + image * (1 - opacity)
    assert np.abs(over - render(image, labels)).max() <= 3
    assert opacity.max() == 1
    assert (opacity == 0).mean() > 0.5


def test_a_chart_alone_is_a_file_with_colours_of_its_own():
    chart = Chart("<a>", [Line(DIAGONAL)], "x", "y", [Guide("known", DIAGONAL, "<b>")], ["<c>"])
    alone, inside = draw(chart, alone=True), draw(chart)
    assert "<style>" in alone
    assert "<style>" not in inside
    (root,) = elements(alone, "svg")
    assert root.namespaceURI == "http://www.w3.org/2000/svg"
    assert root.getAttribute("aria-label") == "<a>"
    assert elements(inside, "title")[0].firstChild.data == "<b>"


def test_texts_are_escaped_in_every_block():
    evil = "<i>&\"'"
    grey = np.full((4, 6, 3), 99, np.uint8)
    chart = Chart(evil, [Line(DIAGONAL, [Mark(0, 0, evil)])], evil, evil, legend=[evil])
    text = page(
        Note(evil),
        Listing([evil]),
        Checks([(True, evil), (False, evil)]),
        Table([evil], [[evil]]),
        Charts([Figure(chart, evil, evil)], [evil]),
        Gallery(evil, [Picture(evil, grey, evil, evil), Picture(evil, None, text=evil)]),
        Controls([evil], [1, 2]),
        Wall([evil], [Strip(evil, "data:,", [Cut(evil, "", evil)])]),
    )
    assert "<i>" not in text
    assert text.count("&lt;i&gt;&amp;") == 29
    assert text.count("<img") == 1


def test_pictures_are_made_one_by_one_as_the_page_is_written():
    file = io.StringIO()

    def pictures():
        for i in range(3):
            assert file.getvalue().count("<img") == i
            yield Picture(f"p{i}", np.zeros((9, 9, 3), np.uint8))

    write_page(Page("spx", "about", True, [Section("head", [Gallery("g", pictures())])], ""), file)
    assert file.getvalue().count("<img") == 3


def test_tables_as_text():
    file = io.StringIO()
    write_markdown(file, Table(["a|b", "c"], [["1", "|"]]))
    assert file.getvalue() == "| a\\|b | c |\n| --- | --- |\n| 1 | \\| |\n"
    file = io.StringIO()
    write_csv(file, ["b", "a"], [{"a": math.nan, "b": 0.1}, {"a": 2, "b": "x,y"}])
    assert file.getvalue() == 'b,a\n0.1,\n"x,y",2\n'


def test_a_suite_counts_its_cases():
    file = io.StringIO()
    write_suite(file, "s\x00", [Case("g", "n"), Case("g", "m", "failure", "<why>"), Case("g", "o", "error", "e")])
    suite = elements(file.getvalue(), "testsuite")[0]
    assert [suite.getAttribute(name) for name in ("name", "tests", "failures", "errors")] == ["s?", "3", "1", "1"]
    assert elements(file.getvalue(), "failure")[0].getAttribute("message") == "<why>"
