"""Files that are whole or absent: what may be replaced, what is written through, and what a killed process leaves."""

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from spx_cli.errors import FormatError, SpxError
from spx_cli.io.files import atomic, check_output, files_digest, sweep


def write(path, data=b"new"):
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a").write_bytes(b"old")
    (tmp_path / "link").symlink_to("store/a")
    (tmp_path / "dangling").symlink_to("store/b")
    write(tmp_path / "link")
    write(tmp_path / "dangling")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "store/a").read_bytes() == (tmp_path / "store/b").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "dangling", "link", "store"]


def test_a_pipe_is_written_through(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe, b"x" * 200_000)
    reader.join(60)
    assert read == [b"x" * 200_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device(tmp_path):
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.open("wb").close()
    except PermissionError:
        null = tmp_path / "link"
        null.symlink_to("/dev/null")
    write(null)
    assert stat.S_ISCHR(null.stat().st_mode)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for name in ("folder", "loop", "file/below"):
        for refuse in (write, check_output):
            with pytest.raises(SpxError, match=f"{name}: cannot be written: "):
                refuse(tmp_path / name)
    assert (tmp_path / "folder").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "loop"]


def test_the_folder_is_synced_after_the_file(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(stat.S_IFMT(os.fstat(handle).st_mode)))
    write(tmp_path / "a")
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    code = (
        "import sys, time; from spx_cli.io.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half'); print('writing', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a")], env=environment, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout.readline() == "writing\n"
        sweep(tmp_path)
        assert len(list(tmp_path.glob(".spx-*.part"))) == 1
        writer.send_signal(signal.SIGKILL)
    with atomic(tmp_path / "b") as mine:
        mine.write_bytes(b"whole")
        sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"whole")]


def test_a_digest_tells_contents_and_their_order_apart_and_names_what_is_missing(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    before = files_digest([a, b])
    assert files_digest([b, a]) != before
    a.write_bytes(b"3")
    assert files_digest([a, b]) != before
    a.write_bytes(b"1")
    assert files_digest([a, b]) == before
    with pytest.raises(FormatError, match="none: No such file"):
        files_digest([a, tmp_path / "none"])
