"""A real browser, JupyterLab on the loopback interface, and what is done with a notebook in it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, ElementHandle, Page, TimeoutError, sync_playwright
from watchdog import REST, WORK, Watchdog, processor_seconds, yardstick

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",  # the tests may run as root, and open nothing but their own pages
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    # All cells in the page, not only those in view; no question about news.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
}


RUN_ALL = """() => {
  window.ranAll = false;
  jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ranAll = true; });
}"""
SIGNS = """() => document.querySelectorAll('.jp-OutputArea-output').length +
  jupyterapp.shell.currentWidget.content.widgets
  .filter((cell) => cell.model.type === 'code' && cell.model.executionCount !== null).length"""
UNEXECUTED = """() => jupyterapp.shell.currentWidget.content.widgets
  .filter((cell) => cell.model.type === 'code' && cell.model.executionCount === null)
  .map((cell) => cell.model.sharedModel.source)"""
ERRORS = """() => [...document.querySelectorAll(
    '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"],' +
    '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"], [role="alert"]')]
  .map((output) => output.innerText.replace(/^.*\\d%\\|.*$/gm, ''))  // progress bars
  .filter((text) => text.trim())"""
# The picture's address is new at every redraw, so its bytes are compared. Times are taken in the
# page: from the key that moves a control to the picture that the browser has decoded.
WATCH = """(picture) => {
  picture.redraws = [];
  picture.addEventListener('load', () => picture.redraws.push(performance.now()));
  if (!window.keyTimes) {
    window.keyTimes = [];
    document.addEventListener('keydown', () => keyTimes.push(performance.now()), true);
  }
}"""
BYTES = """async (picture) => {
  const bytes = await (await fetch(picture.src)).arrayBuffer();
  const hash = await crypto.subtle.digest('SHA-256', bytes);
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}"""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    address: str
    token: str
    folder: Path
    process: int  # of the server; the kernels are its children

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook, alone on the page, and wait for its kernel."""
        page.set_default_timeout(1000 * REST)
        page.goto(f"{self.address}/doc/tree/notebooks/{notebook}?reset&token={self.token}")
        page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'"
        )
        page.evaluate("jupyterapp.shell.currentWidget.context.ready")

    def run_all(self, page: Page) -> None:
        """Run every cell of the open notebook, and wait until all have run.

        Raises:
            RuntimeError: If there is no progress any more, as in the notebooks' runner.
        """
        watchdog = Watchdog(WORK * yardstick(), REST)
        page.evaluate(RUN_ALL)
        while not page.evaluate("ranAll"):
            with suppress(TimeoutError):
                page.wait_for_function("ranAll", timeout=1000)
            signs = page.evaluate(SIGNS)
            if hanging := watchdog.look(processor_seconds(self.process), signs):
                raise RuntimeError(f"the notebook hangs: {hanging}")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start headless Chromium; stop it at the end."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise RuntimeError(
            f"no browser found: looked for {', '.join(NAMES)} and the variable CHROMIUM. Install "
            "one (Debian, Ubuntu: apt-get install chromium) or set CHROMIUM to its path"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def open_lab(folder: Path, **variables: str) -> Iterator[Lab]:
    """Start JupyterLab on copies of the notebooks: what it saves stays away from the repository.

    Args:
        folder: An empty one; copies, settings and features go there.
        **variables: Environment variables for the notebooks.
    """
    shutil.copytree(ROOT / "notebooks", folder / "root" / "notebooks")
    for name in ("tests", "data", "README.md"):  # what the notebooks read or link to
        (folder / "root" / name).symlink_to(ROOT / name)
    for name, values in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {
        "FASTFLOW_CACHE": str(folder / "cache"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_PATH": str(Path(sys.prefix, "share", "jupyter")),  # the kernel of this Python
    }
    # Not what is set for other tests, nor what a person has set for other notebooks.
    ours = ("FASTFLOW_", "MPLBACKEND", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = kept | environment | variables
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={folder / 'root'}", f"--IdentityProvider.token={token}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/api/status?token={token}", server, folder / "log")
        yield Lab(address, token, folder, server.pid)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    watchdog = Watchdog(WORK * yardstick(), REST)
    while server.poll() is None and not watchdog.look(processor_seconds(server.pid), signs=0):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@dataclass(frozen=True)
class Control:
    """A slider of a widget: where the keyboard acts, and the label beside it."""

    element: ElementHandle
    label: str
    keys: tuple[str, str] = ("ArrowRight", "ArrowLeft")  # forward, back


@dataclass(frozen=True)
class Widget:
    """A picture with its controls."""

    picture: ElementHandle
    controls: list[Control]


def errors(page: Page) -> list[str]:
    """Return every error and warning that the page shows."""
    found: list[str] = page.evaluate(ERRORS)
    return found


def widgets(page: Page) -> list[Widget]:
    """Return the widgets of all cells, in the notebook's order."""
    found = []
    for box in page.query_selector_all(".jp-OutputArea-output .widget-vbox:has(> .widget-image)"):
        picture = box.query_selector(".widget-image")
        assert picture is not None
        controls = []
        for row in box.query_selector_all(":scope > .widget-inline-hbox"):
            label = row.query_selector(".widget-label")
            text = label.inner_text() if label else ""
            if handle := row.query_selector("[role=slider]"):
                controls.append(Control(handle, text))
        page.evaluate(WATCH, picture)
        found.append(Widget(picture, controls))
    return found


def content(page: Page, widget: Widget) -> str:
    """Return a fingerprint of the picture's bytes."""
    digest: str = page.evaluate(BYTES, widget.picture)
    return digest


def press(page: Page, widget: Widget, control: Control, key: str, limit: float = 10) -> float:
    """Press a key on a control; return the milliseconds until the browser shows the redraw."""
    page.evaluate(
        "(picture) => { picture.redraws.length = 0; keyTimes.length = 0; }", widget.picture
    )
    control.element.focus()
    control.element.press(key)
    page.wait_for_function(
        "(picture) => picture.redraws.length > 0", arg=widget.picture, timeout=1000 * limit
    )
    delay: float = page.evaluate("(p) => p.redraws[0] - keyTimes[0]", widget.picture)
    return delay
