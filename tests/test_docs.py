"""The README and its pages name everything that the tables hold, and what they show runs."""

import ast
import doctest
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer.main

import spx_cli
from spx_cli.bench.peers import PEERS
from spx_cli.cli import app
from spx_cli.cli import run as spx
from spx_cli.datasets import DATASETS
from spx_cli.io import FORMATS
from spx_cli.methods import METHODS, create
from spx_cli.metrics import METRICS, PROTOCOLS, SPEED_METRICS
from spx_cli.regions.maps import group, overlap
from spx_cli.regions.overlays import OVERLAYS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md"))]
}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)]
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.replace("\\\n", "").splitlines()
    if "spx " in line and not line.lstrip().startswith("#")
]


@pytest.mark.parametrize("table", [METHODS, FORMATS, OVERLAYS])
def test_every_entry_of_a_table_that_one_needs_at_once_is_in_the_readme(table):
    assert [name for name in table if f"`{name}`" not in README] == []


@pytest.mark.parametrize("table", [METRICS, SPEED_METRICS, PEERS, PROTOCOLS, DATASETS])
def test_every_entry_of_every_other_table_is_on_a_page(table):
    pages = "".join(PAGES.values())
    assert [name for name in table if f"`{name}`" not in pages] == []


def links(page):
    """Files and sections to which a page leads."""
    for target, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        yield (page.parent / target).resolve() if target else page, section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for file, section in links(page):
        assert file.exists(), file
        headings = re.findall(r"^#+ (.*)", PAGES.get(file, ""), flags=re.MULTILINE)
        assert not section or section in [heading.lower().replace(" ", "-") for heading in headings]


def test_the_readme_is_short_and_no_page_stands_apart():
    assert README.count("\n") < 250
    assert PAGES.keys() - {ROOT / "README.md"} <= {file for page in PAGES for file, _ in links(page)}


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_they_stand(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    commands = [block for block in blocks if "setup.sh" not in block]
    assert len(commands) > 4
    here = f'python() {{ "{sys.executable}" "$@"; }}; spx() {{ python -m spx_cli "$@"; }}; set -e -o pipefail\n'
    changed = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        ["bash", "-c", here + "".join(commands)], cwd=tmp_path, env=os.environ | changed, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", METHODS)
def test_the_readme_says_whether_a_method_has_seen_labels(name):
    labels = "free" if create(name).label_free else "seen"
    assert f"\n| `{name}` | {labels} |" in README


@pytest.mark.parametrize("name", METHODS)
def test_every_method_file_has_its_line_and_its_paper(name):
    module = METHODS[name].partition(":")[0].rpartition(".")[2]
    text = (ROOT / "src" / "spx_cli" / "methods" / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(r"(19|20)\d\d", text.splitlines()[0]), "the first line names the paper and its year"


def test_no_method_file_is_forgotten():
    files = {p.stem for p in (ROOT / "src" / "spx_cli" / "methods").glob("[a-z]*.py")} - {"base"}
    assert files == {target.partition(":")[0].rpartition(".")[2] for target in METHODS.values()}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_that_is_shown_exists(line):
    group = typer.main.get_command(app)
    for part in re.split(r"\s\|\s|&&", line):
        words = shlex.split(part)
        if "spx" not in words:
            continue
        words = words[words.index("spx") + 1 :]
        command = group
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, words[0]
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z0]", word)}
        assert used <= known | {"--help"}, used - known


def test_the_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    block = next(text for language, text in BLOCKS if language == "python" and "import spx_cli as spx" in text)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["labels"].max() + 1 == 400


def test_the_readme_uses_public_names_only():
    used = {"spx_cli"}
    for language, text in BLOCKS:
        for node in ast.walk(ast.parse(text)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("spx_cli"):
                used |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "spx":
                used.add(f"spx_cli.{node.attr}")
    assert "spx_cli.train" in used
    assert used <= {"spx_cli", *(f"spx_cli.{name}" for name in spx_cli.__all__)}


def test_the_toy_method_of_the_readme_works():
    block = next(text for language, text in BLOCKS if language == "python" and "class Toy" in text)
    names: dict = {"__name__": "toy"}
    exec(compile(block, "README.md", "exec"), names)
    assert names["Toy"](shift=3).segment(np.zeros((20, 30, 3), np.uint8), 7).max() == 6


def test_the_examples_of_the_docstrings_are_true():
    """Those of all modules that this machine can import; np, group and overlap are there without being imported."""
    attempted = 0
    for module in pkgutil.walk_packages(spx_cli.__path__, "spx_cli."):
        if module.name.endswith(("__main__", ".fused")):  # runs the command, needs Triton
            continue
        given = {"np": np, "group": group, "overlap": overlap}
        result = doctest.testmod(import_module(module.name), extraglobs=given)
        assert result.failed == 0, module.name
        attempted += result.attempted
    assert attempted > 50


def test_the_first_command_of_the_demo_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = next(line for line in (ROOT / "setup.sh").read_text().splitlines() if "segment examples" in line)
    words = shlex.split(line)
    words[words.index("examples/coffee.jpg")] = str(ROOT / "examples" / "coffee.jpg")
    assert spx(words[1:]) == 0
    assert (tmp_path / "demo" / "coffee.overlay.png").stat().st_size > 10_000
