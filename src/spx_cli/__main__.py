"""The command line's entry, also as python -m spx_cli: ready for Ctrl-C before anything that takes time is imported."""

import atexit
import gc
import os
import sys

TYPE_CHECKING = False  # the module typing takes time
if TYPE_CHECKING:
    from typing import Any, NoReturn


def main() -> "NoReturn":
    """Run spx on the arguments of this process and exit."""
    # What imports make stays: to search it for garbage takes a sixth of a short command. `collect_garbage` ends this.
    gc.disable()
    # Threads of PyTorch that wait for others soon sleep. Where another program has a core they would else spin through
    # its turns. It is what libgomp does itself when it knows of more threads than cores.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    ended: list[int] = []
    atexit.register(_insist, ended)  # the first to be registered is the last to be called
    try:
        from signal import SIG_DFL, SIG_IGN, SIGINT, SIGTERM, default_int_handler, getsignal, signal

        # While there is nothing to clean up after, an interrupt ends the process here and now, whatever is imported.
        wanted = getsignal(SIGINT) is default_int_handler  # it is not in the background of a script
        if wanted:
            signal(SIGINT, _leave)
        from spx_cli.cli import run

        if wanted:
            signal(SIGINT, default_int_handler)
        if getsignal(SIGTERM) is SIG_DFL:  # what stops a job of CI: there is as much to clean up after
            signal(SIGTERM, default_int_handler)
        code = run(sys.argv[1:])
        signal(SIGINT, SIG_IGN)  # all is done
        signal(SIGTERM, SIG_DFL)
        ended.append(code)
    except KeyboardInterrupt:
        _leave()
    sys.exit(code)


def _insist(ended: "list[int]") -> None:
    """End with 130 after an interrupt: one inside `exec` makes python -m end by the signal, although it was caught."""
    if ended == [130]:
        sys.stdout.flush()
        os._exit(130)


def _leave(*_: "Any") -> "NoReturn":
    os.write(2, b"spx: error: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
