"""The command line as a whole: help, start, streams, interrupts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import spx_cli
from spx_cli.cli import COMMANDS, app, run
from started import picture, process


def commands(group=None, path=()):
    """Every command, with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield pytest.param((*path, name), command, id=" ".join((*path, name)))


@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_every_command_and_option_has_a_help(spx, words, command):
    result = spx(*words, "--help")
    assert result.code == 0
    assert command.help
    assert f"Usage: spx {' '.join(words)}" in result.out
    assert all(option.help for option in command.params if option.param_type_name == "option")


def test_help_names_every_command(spx):
    assert spx().out == spx("--help").out
    assert all(f"\n  {name} " in spx("-h").out for name in COMMANDS)


def test_version(spx):
    assert spx("--version") == (0, f"spx {spx_cli.__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["segmnt"], "Did you mean 'segment'?"),
        (["segment", "--ovrlay", "mean"], "--overlay"),
        (["methods"], "Missing command"),
        (["methods", "show"], "NAME"),
        (["methods", "show", "slik"], "did you mean 'slic'"),
        (["segment", "a.png", "-k", "0"], "-k"),
        (["segment", "a.png", "-k", "many"], "-k"),
        (["segment", "a.png", "-m", "snik"], "did you mean 'snic'"),
        (["segment", "a.png", "-m", "SLIC"], "did you mean 'slic'"),
        (["segment", "a.png", "-m", "slic0"], "did you mean 'slico'"),
        (["segment", "a.png", "-m", "SLICO"], "did you mean 'slico'"),
        (["segment", "a.png", "--overlay", "Side_by_side"], "did you mean 'side-by-side'"),
        (["segment", "a.png", "--thickness", "0"], "greater than or equal to 0.1"),
        (["segment", "a.png", "-p", "compactnes=3"], "did you mean 'compactness'"),
        (["segment", "a.png", "-p", "compactness"], "NAME=VALUE"),
        (["segment", "a.png", "-p", "compactness=-1"], "compactness must be >"),
        (["segment", "a.png", "-p", "compactness=soft"], "compactness must be float"),
        (["segment", "a.png", "--seed", "3"], "slic has no seed"),
        (["segment", "a.png", "--weights", "w"], "slic has no weights"),
        (["segment", "a.png", "-m", "snic", "--device", "cuda"], "snic runs on the CPU only"),
        (["segment", "a.png", "--device", "gpu"], "'gpu'"),
        (["segment", "a.png", "--format", "pgn"], "did you mean 'png'"),
        (["segment", "a.png", "--overlay", "boundary"], "did you mean 'boundaries'"),
        (["segment", ""], "INPUT...': it is empty"),
        (["eval", "--data", "a", "--json", ""], "'--json': it is empty"),
        (["segment", "a.png", "-p", ""], "'-p' / '--param': it is empty"),
        (["segment", "a.png", "-0"], "-0 says nothing without --from-file"),
        (["segment", "a.png", "--fail-fast", "--max-failures", "2"], "give one"),
        (["contours", "a.png", "--layout", "voc"], "--layout is about scores"),
        (["contours", "--data", "a", "--fail-fast"], "--fail-fast goes with images"),
        (["bench", "--images", "a", "-m", "snic", "--device", "cuda"], "no method of this run has a device"),
        (["bench", "--images", "a", "--protocol", "sen", "--tolerance", "2"], "--protocol, --tolerance: for --data"),
        (
            ["eval", "--data", "a", "--labels", "b", "-k", "3", "--seed", "4"],
            "not for label maps: -k, --seed",
        ),
        (["train", "lnsnet", "--data", "a", "--out", "b", "--val-split", "val"], "nothing is validated by this recipe"),
        (["segment", "--from-file", "missing.txt"], "missing.txt: No such file"),
        (["segment", "a.png", "-o", "-", "--json"], "--json"),
        (["segment", "a.png", "--range", "0"], "--range"),
        (["segment", "a.png", "-p", "iterations=3", "-p", "iterations=4"], "iterations is given twice"),
        (["segment", "a.png", "-m", "sin", "--weights", "sin", "-p", "weights=sin"], "weights is given twice"),
        (["segment", "a.png", "--thickness", "2"], "--thickness says nothing without --overlay"),
        (["bench", "--images", "a", "--longest", "2"], "--longest says nothing without --scaling"),
        (["segment", "a.png", "--device", "cpu", "-p", "device=auto"], "device is given twice"),
    ],
)
def test_wrong_usage_is_one_line_and_2(spx, args, message):
    picture("a.png")
    result = spx(*args)
    assert result.code == 2
    assert result.err.startswith("spx: error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert result.out == ""
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_the_last_value_of_an_option_counts_and_that_is_told(spx):
    picture("a.png")
    code, _, err = spx("segment", "a.png", "-k", "4", "-o", "b.png", "--segments", "9", "-q", "-q")
    assert (code, err) == (0, "spx: -k is given more than once, and the last counts: 9\n")
    assert spx_cli.read_labels("b.png").max() == 8


def test_a_bug_shows_its_traceback(monkeypatch):
    monkeypatch.setattr("spx_cli.cli._options.make_method", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["segment", "a.png"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("spx seg", ["segment"]),
        ("spx segment -m sli", ["slic", "slico"]),
        ("spx segment --overlay si", ["side-by-side"]),
        ("spx segment --format ti", ["tiff"]),
        ("spx methods show sni", ["snic"]),
    ],
)
def test_the_shell_completes_names(spx, capsys, monkeypatch, line, expected):
    monkeypatch.setenv("_SPX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    with pytest.raises(SystemExit, match="0"):
        run([])
    assert capsys.readouterr().out.split() == expected


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(spx, by):
    for i in range(100):  # a second of work and more, so that a busy machine interrupts it and not its end
        picture(f"photos/{i:03}.png", size=(300, 300))
    command = ("segment", "photos", "-m", "snic", "-o", "out")
    with process(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        reader.stdout.readline()
        reader.send_signal(by)
        assert reader.communicate()[1] == b"spx: error: interrupted\n"
    assert reader.returncode == 130
    assert not list(Path("out").rglob("*.part"))


ENDS = """
import spx_cli.__main__, spx_cli.cli

def app(**options):
    {}

spx_cli.cli.app, spx_cli.cli.complain = app, lambda text: print(text)
spx_cli.__main__.main()
"""


@pytest.mark.parametrize(
    "end",
    [
        "raise KeyboardInterrupt",
        "exec('raise KeyboardInterrupt')",  # after which python -m would end by the signal
        "raise SystemError('returned a result with an exception set') from KeyboardInterrupt()",  # compiled code
        # through compiled code that called compiled code
        "try: raise SystemError from KeyboardInterrupt()\n    except Exception as error: raise SystemError from error",
    ],
)
def test_every_interrupt_ends_alike(tmp_path, end):
    (tmp_path / "ends.py").write_text(ENDS.format(end))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, *sys.path]))}
    done = subprocess.run([sys.executable, "-m", "ends"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_standard_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        ended = process("methods", "list", stdout=full, stderr=subprocess.PIPE)
        _, error = ended.communicate(timeout=120)
    assert (ended.returncode, error) == (1, b"spx: error: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_hindrance(tmp_path, closed):
    command = f"'{sys.executable}' -m spx_cli segment a.png -m slic -k 4 {closed}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    picture(tmp_path / "a.png")
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, timeout=120, check=False)
    assert done.returncode == 0
    assert (tmp_path / "a.labels.png").is_file()
