"""A real headless Chromium, driven through ChromeDriver's WebDriver port."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver")
LIMIT_S = 60.0

NOT_INSTALLED = "needs a browser: apt-get install chromium chromium-driver"


def programs() -> tuple[str, str] | None:
    """Return the paths of the browser and of its driver; None if one is not installed."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = next(filter(None, map(shutil.which, DRIVERS)), None)
    return (browser, driver) if browser and driver else None


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of a size, with the colours that its reader prefers."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._post("url", {"url": "about:blank"})
        self.complaints()  # the page before may have lost its server
        self._post("url", {"url": url})

    def run(self, script: str) -> Any:
        """Run the body of a JavaScript function and return what it returns."""
        return self._post("execute/sync", {"script": script, "args": []})

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        return str(self.run(f"return document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click on an element, as a person does: it must be there to be seen."""
        found = self._post("element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        self._post(f"element/{element}/click", {})

    def until(self, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Wait until something is so; fails if it never is."""
        deadline_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline_s, f"it never came to pass; {self.text()}"
            time.sleep(0.02)

    def overflow(self) -> list[str]:
        """Return what is wider than the window, or cut off by its own box, as CSS selectors."""
        found: list[str] = self.run(
            """
            const wide = document.documentElement.clientWidth, found = [];
            if (document.documentElement.scrollWidth > wide) found.push("the page");
            for (const each of document.querySelectorAll("body *")) {
              const box = each.getBoundingClientRect(), style = getComputedStyle(each);
              const name = each.tagName.toLowerCase() + "#" + each.id + "." + each.className;
              if (each.closest(".scroll") || !box.width) continue;
              const outside = box.right > wide + 0.5 || box.left < -0.5;
              const block = style.display !== "inline" && each.clientWidth > 0;
              const scrolls = ["auto", "scroll"].includes(style.overflowX);
              const cut = block && !scrolls && each.scrollWidth > each.clientWidth + 1;
              if (outside || cut) found.push(name);
            }
            return found;
            """
        )
        return found

    def complaints(self) -> list[str]:
        """Return the console's warnings and errors since the last call."""
        entries = self._post("se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG file."""
        high = self.run("return document.documentElement.scrollHeight")
        wide = self.run("return window.innerWidth")
        metrics = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        time.sleep(0.3)
        path.write_bytes(base64.b64decode(_ask(f"{self._session}/screenshot")))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _post(self, path: str, data: dict[str, Any]) -> Any:
        return _ask(f"{self._session}/{path}", data)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser; end it with its driver."""
    found = programs()
    assert found is not None
    driver = subprocess.Popen([found[1], "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        root = f"http://127.0.0.1:{_port(driver)}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--enable-unsafe-swiftshader"]  # WebGL without a GPU
        options = {"binary": found[0], "args": arguments}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = _ask(f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{root}/session/{made['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _ask(session, method="DELETE")
    finally:
        driver.terminate()
        driver.wait(10)
        assert driver.stdout is not None
        driver.stdout.close()


def _port(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if "successfully on port" in line:
            return int(line.rpartition("on port")[2].strip(" .\n"))
    raise AssertionError("the driver ended")


def _ask(url: str, data: dict[str, Any] | None = None, method: str | None = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None
