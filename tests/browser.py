"""A headless Chromium to look at a page with, driven through a pipe; nothing but the browser is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120  # seconds for one answer
# The browser reads commands from descriptor 3 and writes answers to 4; so high as 90 nothing is in the way.
_EXEC = """import fcntl, os, sys
read, write = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 90) for one in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def found():
    """Return the browser of this machine, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. `said` holds what it wrote to the console and which errors it had."""

    def __init__(self, size=(1280, 900)):
        self.folder = tempfile.mkdtemp()
        self.said, self._answers, self._loaded, self._last = [], {}, 0, 0
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        options = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
            *(f"--user-data-dir={self.folder}", f"--window-size={size[0]},{size[1]}", "about:blank"),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, str(theirs_in), str(theirs_out), found(), *options],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in, self._rest, self.session = ours_out, ours_in, b"", None
        try:
            self._attach(size)
        except BaseException:
            self.__exit__()
            raise

    def _attach(self, size):
        targets = self.ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.size(*size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method, **params):
        """Return the browser's answer to a command of the DevTools protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while self._last not in self._answers:
            self._listen()
        answer = self._answers.pop(self._last)
        assert "error" not in answer, answer
        return answer["result"]

    def _listen(self):
        ready, _, _ = select.select([self._in], [], [], PATIENCE)
        assert ready, "the browser does not answer"
        data = os.read(self._in, 1 << 20)
        assert data, "the browser has gone"
        *messages, self._rest = (self._rest + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
                continue
            kind, params = message["method"], message["params"]
            if kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.said.append(json.dumps(params)[:500])
            elif kind == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                self.said.append("asked for " + params["request"]["url"])
            elif kind == "Page.loadEventFired":
                self._loaded += 1

    def open(self, path):
        """Load a file and wait until all of it is there."""
        before = self._loaded
        self.ask("Page.navigate", url=Path(path).resolve().as_uri())
        while self._loaded == before:
            self._listen()

    def size(self, width, height, *, phone=False):
        """Change the window."""
        scale = 2 if phone else 1
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def run(self, expression):
        """Return the value of an expression of JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code=0, text=""):
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)
        time.sleep(0.05)

    def shoot(self, path, *, whole=False):
        """Write a picture of the page."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))
