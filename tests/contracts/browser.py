"""A headless Chromium that a test drives, over the browser's own debugging pipe: no port, no driver, no download."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REASON = "no chromium, chromium-browser or google-chrome on PATH"


class Browser:
    """One page of a browser that reaches this machine's loopback address and nothing else."""

    def __init__(self, profile: Path, width: int = 1600, height: int = 900) -> None:
        assert PROGRAM is not None, REASON
        theirs, self._out = os.pipe()
        self._in, their_out = os.pipe()
        # The browser reads commands from its descriptor 3 and answers on 4: ours must not lie there already.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (theirs, their_out)]

        def hand_over() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", f"--window-size={width},{height}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, preexec_fn=hand_over, pass_fds=(3, 4), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        for one in (theirs, their_out, *high):
            os.close(one)
        self._rest, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []
        """Uncaught errors of the page's scripts."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self._call(f"{domain}.enable")
        self.size(width, height)

    def size(self, width: int, height: int) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url: str) -> None:
        """Load a page anew, also where only the part behind `#` differs."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """What a reader sees."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait(self, script: str, seconds: float = 300) -> Any:
        """Until an expression is true; its value."""
        until = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < until, f"{script}: in vain; the page says: {self.text()[:2000]}"
            time.sleep(0.2)
        return value

    def wait_for(self, *texts: str) -> None:
        """Until the page shows all of these."""
        for text in texts:
            self.wait(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    def click(self, script: str) -> None:
        """Click on the middle of an element, as a user does."""
        self.wait(f"Boolean({script})")
        place = self.evaluate(
            f"(() => {{ const one = {script}; one.scrollIntoView({{block: 'center'}}); "
            "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def settle(self, seconds: float = 60) -> None:
        """Until the page looks the same twice, a second apart."""
        until, before = time.monotonic() + seconds, ""
        while (now := self._call("Page.captureScreenshot", format="png")["data"]) != before:
            assert time.monotonic() < until, "the page does not come to rest"
            before = now
            time.sleep(1)

    def picture(self, path: Path) -> Path:
        """What is in the window, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return path

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        os.close(self._in)
        os.close(self._out)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, seconds: float = 300) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], seconds)
            assert ready, f"the browser says nothing for {seconds:g} s"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def element(selector: str, text: str) -> str:
    """Script: the innermost shown element of a CSS selector that holds a text."""
    return (
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(one => "
        f"one.innerText && one.innerText.includes({json.dumps(text)})).pop()"
    )
