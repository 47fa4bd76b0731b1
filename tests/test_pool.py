"""Worker processes: that they start, and that none of them outlives its use."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import standin
from spx_cli import pool
from waiting import wait_until

SCRIPT = "import pathlib, standin; from spx_cli.pool import spread\n"


@pytest.fixture
def start(tmp_path):
    """Start Python on a script that may import what tests may, in a session of its own."""
    begun = []

    def call(code, **options):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT + code)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
        options = {"stderr": subprocess.PIPE, "start_new_session": True, **options}
        begun.append(subprocess.Popen([sys.executable, str(script)], env=environment, **options))
        return begun[-1]

    yield call
    for process in begun:
        process.kill()
        process.communicate()


def session(leader):
    """The living processes of a session, less its leader."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, sid = place.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == leader and state != "Z" and int(place.name) != leader:
            found.append(int(place.name))
    return found


def test_a_script_without_a_main_guard_is_told_so_once(start):
    process = start("print(dict(spread(standin.double, range(9), jobs=2)))", stdout=subprocess.PIPE)
    out, error = process.communicate(timeout=300)
    assert (process.returncode, out) == (1, b"")
    assert error.count(b"Traceback") == 1
    assert b"SpxError: worker processes cannot start" in error.splitlines()[-1]
    assert b'if __name__ == "__main__":' in error.splitlines()[-1]


def test_a_script_from_standard_input_is_told_so_once(start, tmp_path):
    code = SCRIPT + "if __name__ == '__main__': print(dict(spread(standin.double, range(9), jobs=2)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run([sys.executable], input=code, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.count("Traceback") == 1
    assert "SpxError: worker processes cannot start" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("begun", "group"), [(0, True), (1, True), (1, False)])
def test_an_interrupt_ends_the_workers_at_once(start, tmp_path, begun, group):
    """Ctrl-C in a terminal reaches the workers too, kill -INT their parent alone; at work or still starting."""
    paths = f"[pathlib.Path({str(tmp_path)!r})] * 2"
    process = start(
        f"if __name__ == '__main__': print('go', flush=True), list(spread(standin.leave_pid, {paths}, jobs=2))",
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    wait_until(lambda: len(session(process.pid)) >= 2 and len(list(tmp_path.glob("[0-9]*"))) >= begun)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=300)  # a worker would sleep for 600
    assert error.count(b"Traceback") == 1
    assert error.endswith(b"KeyboardInterrupt\n")
    wait_until(lambda: not session(process.pid))  # the process that counts semaphores leaves a little later


def test_workers_share_the_cores():
    assert pool.workers() == 1
    found = dict(pool.spread(standin.share, range(4), jobs=2))
    assert set(found.values()) == {(2, max(1, pool.cores() // 2))}


def test_signals_that_were_put_off_all_arrive():
    told, both = [], (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda *caught: told.append(caught[0])) for one in both}
    try:
        with pool._undisturbed():
            for one in before:
                signal.raise_signal(one)
            assert told == []
        assert sorted(told) == sorted(before)
        signal.raise_signal(signal.SIGTERM)
        assert told[2:] == [signal.SIGTERM]
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
