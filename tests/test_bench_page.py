"""The page of `spx bench` in a real browser."""

import numpy as np
import pytest
from PIL import Image

import browser
import spx_cli
from spx_cli.evaluation.gates import Conditions
from spx_cli.io import write_labels
from spx_cli.options import BenchOptions
from spx_cli.reports import write
from standin import StandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.found() is None, reason="no Chromium here"),
]
NAMES = ("standin", "skimage-slic", "skimage-watershed")
ROWS = """[...document.querySelector("table").tBodies[0].rows].filter((r) => getComputedStyle(r).display !== "none")"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of a run on two images; one of them has a name that would break a page."""
    root = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    for name in ("a", "<b>&'"):
        for folder in ("images", "labels"):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
        blocks = np.kron(rng.integers(1, 255, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        Image.fromarray(blocks).save(root / f"data/images/{name}.png")
        write_labels(root / f"data/labels/{name}.png", (np.indices((120, 160)) // 60).sum(0).astype(np.int32))
    options = BenchOptions(repeats=3, timed=1, scaling=True, largest=1.0)
    document = spx_cli.benchmark(root / "data", StandIn(), [4, 12, 48], options, peers=NAMES[1:])
    assert document.failures == []
    with (root / "page.html").open("w", encoding="utf-8") as file:
        write("html", Conditions.parse([], [], None, []).judge(document), file)
    return root / "page.html"


@pytest.fixture
def page(written):
    with browser.Browser() as opened:
        opened.open(written)
        yield opened
        assert opened.said == []


def column(page, index):
    return page.run(f"{ROWS}.map((row) => row.cells[{index}].textContent)")


def head(page):
    return page.run('[...document.querySelector("table").tHead.rows[0].cells].map((cell) => cell.textContent)')


def test_every_plot_is_drawn(page):
    plots = page.run(
        """[...document.querySelectorAll("figure")].map((figure) => {
        const box = figure.querySelector("svg").getBoundingClientRect();
        const lines = [...figure.querySelectorAll("polyline[data-name]")].filter((line) => line.getTotalLength() > 1);
        const dots = figure.querySelectorAll("circle").length;
        return [figure.querySelector("b").textContent, box.width > 200 && box.height > 150, lines.length, dots];
        })"""
    )
    names = [name for name, *_ in plots]
    assert names == ["asa", "br", "ue_np", "co", "ev", "asa against time", "time over count", "time over size"]
    assert all(seen and lines == 3 and dots >= 9 for _, seen, lines, dots in plots), plots


def test_tables_are_sorted_by_a_click_and_by_a_key(page):
    asa = next(i for i, name in enumerate(head(page)) if name.startswith("asa"))
    button = f'document.querySelector("table").tHead.rows[0].cells[{asa}].firstElementChild'
    page.run(f"{button}.click()")
    best_first = [float(text) for text in column(page, asa)]
    assert best_first == sorted(best_first, reverse=True)
    page.run(f"{button}.focus()")
    page.press("Enter", 13, "\r")
    assert [float(text) for text in column(page, asa)] == best_first[::-1]
    page.run('document.querySelector("table").tHead.rows[0].cells[0].firstElementChild.click()')
    assert column(page, 0) == sorted(column(page, 0))


def test_what_is_not_ticked_is_hidden_everywhere(page):
    shown = """[...document.querySelectorAll("[data-name]")].filter((one) => getComputedStyle(one).display !== "none")
    .map((one) => one.dataset.name)"""
    assert set(page.run(shown)) == set(NAMES)
    page.run('document.querySelector("input[value=standin]").focus()')
    page.press(" ", 32, " ")
    assert set(page.run(shown)) == set(NAMES[1:])
    assert set(column(page, 0)) == set(NAMES[1:])
    page.run('document.querySelector("select").value = "12"')
    page.run('document.querySelector("form").dispatchEvent(new Event("change"))')
    assert column(page, 1) == ["12", "12"]
    page.run("document.querySelector('[data-every=\"\"]').click()")
    assert column(page, 0) == []
    page.run("document.querySelector('[data-every=\"1\"]').click()")
    assert set(column(page, 0)) == set(NAMES)


def test_a_picture_opens_in_full_size_and_the_keyboard_goes_on(page):
    opened = 'document.querySelector("#full").open'
    title = 'document.querySelector("#full b").textContent'
    assert not page.run(opened)
    page.run('document.querySelector(".wall .shot").focus()')
    page.press("Enter", 13, "\r")
    assert page.run(opened)
    size = 'document.querySelector("#full img").getBoundingClientRect()'
    assert (page.run(f"{size}.width"), page.run(f"{size}.height")) == (160, 120)
    ground = 'getComputedStyle(document.querySelector("#full .shot")).backgroundImage.slice(0, 20)'
    assert page.run(ground) == 'url("data:image/jpeg'
    first = page.run(title)
    page.press("ArrowRight", 39)
    assert page.run(title) != first
    assert "skimage-slic" in page.run(title)
    page.press("ArrowDown", 40)
    assert page.run(title).split(",")[0] != first.split(",")[0]
    for _ in range(9):
        page.press("ArrowRight", 39)
    assert "skimage-watershed" in page.run(title)
    page.press("Escape", 27)
    assert not page.run(opened)
    assert page.run("document.activeElement.className + document.activeElement.textContent.length") == "shot0"


def test_nothing_is_wider_than_the_window_of_a_phone(page):
    page.size(375, 700, phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 375
    page.run('document.querySelector(".wall .shot").click()')
    assert page.run('document.querySelector("#full").getBoundingClientRect().right') <= 375
