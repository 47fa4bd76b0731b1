"""Imports point down, the command line is light, and no public name hides a module."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as pillow

import spx_cli

SOURCE = Path(spx_cli.__file__).parent

# From the ground up: a part imports only from lines above its own.
LAYERS = (
    "_version errors",
    "pool registry types",
    "color device params",
    "io options regions",
    "datasets weights",
    "methods metrics",
    "contours",
    "batch evaluation training",
    "bench",
    "reports",
    "api",
    "cli",
    "__main__",
)
RANK = {part: rank for rank, line in enumerate(LAYERS) for part in line.split()}

# Packages of siblings that do not know each other; what starts with an underscore, and these, they share.
SHARED = {"methods": {"base"}, "datasets": {"base", "companions", "folder"}, "cli": set()}

FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def module(path: Path) -> list[str]:
    return list(path.relative_to(SOURCE).with_suffix("").parts)


def imported(tree: ast.AST) -> list[list[str]]:
    """Modules of spx that a file imports, as the parts of their names below spx_cli."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "spx_cli":
            names += [spx_cli._EXPORTS.get(alias.name, f"spx_cli.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = SOURCE.parent.joinpath(*node.module.split("."))
            names += [
                f"{node.module}.{a.name}" if inside.joinpath(f"{a.name}.py").is_file() else node.module
                for a in node.names
            ]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name.split(".")[1:] for name in names if name.startswith("spx_cli.")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down_and_never_sideways(path):
    part, *inner = module(path)
    assert part in RANK, f"give {part} a place in LAYERS"
    for target, *rest in imported(ast.parse(path.read_text())):
        if target == part:
            if part in SHARED and inner and inner[0] != "__init__" and rest:
                sibling = rest[0]
                assert sibling == inner[0] or sibling.startswith("_") or sibling in SHARED[part], f"{path}: {sibling}"
            continue
        assert RANK[target] < RANK[part], f"{path.name} imports spx_cli.{target}, which stands above it"


def test_a_part_of_the_table_of_layers_exists():
    parts = {module(path)[0] for path in FILES}
    assert parts <= set(RANK)


@pytest.mark.parametrize(
    "code",
    ["import spx_cli", "import spx_cli.cli", "import spx_cli.methods", "from spx_cli.cli import run; run(['--help'])"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    heavy = ("numpy", "torch", "numba", "scipy", "PIL", "skimage", "rich")
    code += f"; import sys; print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.split() == []


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("run(['methods', 'list'])", "numpy torch numba scipy PIL skimage rich"),
        ("run(['segment', 'a.png', '-k', '2'])", "torch scipy.ndimage skimage tifffile rich jinja2"),
    ],
)
def test_a_command_imports_only_what_it_needs(code, heavy, tmp_path):
    pillow.new("RGB", (2, 2)).save(tmp_path / "a.png")
    code = f"import sys; from spx_cli.cli import run; code = {code}; "
    code += f"print(*[m for m in '{heavy}'.split() if m in sys.modules], file=sys.stderr); sys.exit(code)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stderr.split() == []


@pytest.mark.parametrize("command", ["segment a.png -k 2", "eval --data . -m slic -k 2 --metric ev -q", "train slic"])
def test_garbage_is_collected_once_a_command_is_at_work(command, tmp_path):
    pillow.new("RGB", (2, 2)).save(tmp_path / "a.png")
    pillow.new("L", (2, 2)).save(tmp_path / "a_label.png")
    code = f"import atexit, gc, sys; sys.argv += {command.split()}; from spx_cli.__main__ import main; "
    code += "atexit.register(lambda: print(gc.isenabled(), file=sys.stderr)); main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.stderr.splitlines()[-1] == "True"


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(given, spins):
    code = "import atexit, os, sys; sys.argv += ['--version']; from spx_cli.__main__ import main; "
    code += "atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT'))); main()"
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**others, **given}
    )
    assert done.stdout.split()[-1] == str(spins)


def test_no_public_name_is_that_of_a_module():
    modules = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert not modules & set(spx_cli.__all__)


def test_public_names_exist():
    for name in spx_cli.__all__:
        assert getattr(spx_cli, name) is not None


def test_modules_of_a_part_import_each_other_in_no_circle():
    """All modules of spx have an order in which each imports only earlier ones, inside functions too; types aside."""
    above = {".".join(module(path)).removesuffix(".__init__"): path for path in FILES}
    imports = {name: set() for name in above}
    for name, path in above.items():
        tree = ast.parse(path.read_text())
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
        for target in imported(tree):
            found = ".".join(target)
            imports[name] |= {found} & above.keys() - {name}
    while free := {name for name, needed in imports.items() if not needed}:
        imports = {name: needed - free for name, needed in imports.items() if name not in free}
    assert not imports, f"these import each other in a circle: {', '.join(sorted(imports))}"
