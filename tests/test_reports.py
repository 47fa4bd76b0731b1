import io
import math
import xml.dom.minidom

import numpy as np
import pytest

from spx_cli.reports.charts import Chart, Guide, Line, Mark, draw
from spx_cli.reports.junit import Case, write_suite
from spx_cli.reports.page import Charts, Checks, Figure, Gallery, Listing, Note, Page, Picture, Section, write_page
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
    )
    assert "<i>" not in text
    assert text.count("&lt;i&gt;&amp;") == 21
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
