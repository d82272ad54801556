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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
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
    "--use-fake-device-for-media-stream",  # a camera that shows a clock
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


DRAWN = ".jp-OutputArea-output .widget-vbox:has(> .widget-image)"
CONTROLS = "input[type=range], input[type=radio], select, canvas[tabindex='0']"
LABELS = f"""(place) => [...place.querySelectorAll({CONTROLS!r})].map((one) => [
  one.type ?? 'canvas',
  one.ariaLabel ?? [...one.labels ?? []].map((label) => label.textContent).join(' ').trim()])"""
KEYS = {
    "range": ("ArrowRight", "ArrowLeft"),
    "radio": ("ArrowRight", "ArrowUp"),
    "select-one": ("ArrowDown", "ArrowUp"),
    "canvas": ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"),
}
OTHER = """(one) => [...document.querySelectorAll('input[type=radio]')]
  .find((other) => other.name === one.name && !other.checked)"""
SHOWN = """async (place) => {
  const seen = place.cloneNode(true);
  seen.querySelectorAll('.live-slider, .live-menu, canvas').forEach((one) => one.remove());
  const parts = [new TextEncoder().encode(seen.innerHTML)];
  for (const canvas of place.querySelectorAll('canvas'))
    if (canvas.width && canvas.height)
      parts.push(new TextEncoder().encode(canvas.toDataURL()));  // the exact pixels, as PNG
  const bytes = await new Blob(parts).arrayBuffer();
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
    """A part of a widget that can be moved: where the keyboard acts, and the label beside it."""

    find: Callable[[], ElementHandle]  # anew each time: a live figure may have been built again
    label: str
    keys: tuple[str, ...] = ("ArrowRight", "ArrowLeft")  # forward, back

    @property
    def element(self) -> ElementHandle:
        return self.find()


@dataclass(frozen=True)
class Widget:
    """A picture with its controls: one that the kernel draws, or a live figure."""

    picture: ElementHandle
    controls: list[Control]
    is_live: bool = False


def errors(page: Page) -> list[str]:
    """Return every error and warning that the page shows."""
    found: list[str] = page.evaluate(ERRORS)
    return found


def widgets(page: Page) -> list[Widget]:
    """Return the widgets of the page, in its order: those of JupyterLab, and live figures."""
    return [
        _live(page, box)
        if box.evaluate("(box) => box.matches('.live-place')")
        else _drawn(page, box)
        for box in page.query_selector_all(f"{DRAWN}, .live-place")
    ]


def _drawn(page: Page, box: ElementHandle) -> Widget:
    """A widget whose picture comes from the kernel."""
    picture = box.query_selector(".widget-image")
    assert picture is not None
    controls = []
    for row in box.query_selector_all(":scope > .widget-inline-hbox"):
        label = row.query_selector(".widget-label")
        text = label.inner_text() if label else ""
        if handle := row.query_selector("[role=slider]"):
            controls.append(Control(partial(_same, handle), text))
    page.evaluate(WATCH, picture)
    return Widget(picture, controls)


def _same(handle: ElementHandle) -> ElementHandle:
    return handle


def _live(page: Page, place: ElementHandle) -> Widget:
    """A live figure: every slider, menu, radio button, and canvas that takes the focus."""
    page.wait_for_function("(place) => place.dataset.drawn", arg=place)
    controls = []
    for number, (kind, label) in enumerate(page.evaluate(LABELS, place)):
        controls.append(Control(partial(_nth, page, place, number), label, KEYS[kind]))
    return Widget(place, controls, is_live=True)


def _nth(page: Page, place: ElementHandle, number: int) -> ElementHandle:
    found = page.evaluate_handle(
        f"([place, number]) => [...place.querySelectorAll({CONTROLS!r})][number]", [place, number]
    ).as_element()
    assert found is not None
    return found


def content(page: Page, widget: Widget) -> str:
    """Return a fingerprint of the picture: its bytes, or all that a live figure shows.

    What a live figure's slider says beside itself does not count: it shows that the slider has
    moved, and not that it moves anything.
    """
    digest: str = page.evaluate(SHOWN if widget.is_live else BYTES, widget.picture)
    return digest


def press(page: Page, widget: Widget, control: Control, key: str, limit: float = 10) -> float:
    """Press a key on a control; return the milliseconds until the browser shows the redraw."""
    if widget.is_live:
        return until_drawn(page, widget, lambda: _key(control.element, key), limit)
    page.evaluate(
        "(picture) => { picture.redraws.length = 0; keyTimes.length = 0; }", widget.picture
    )
    _key(control.element, key)
    page.wait_for_function(
        "(picture) => picture.redraws.length > 0", arg=widget.picture, timeout=1000 * limit
    )
    delay: float = page.evaluate("(p) => p.redraws[0] - keyTimes[0]", widget.picture)
    return delay


def point(
    page: Page, widget: Widget, control: Control, share: float, *, touch: bool = False
) -> float:
    """Click or tap on a control of a live figure; a canvas is dragged over by the mouse.

    Args:
        page: With a touch screen, where ``touch`` is asked for.
        widget: A live figure.
        control: One of its controls.
        share: Where on it, from 0 (left, top) to 1. Of a menu: which of its options.
        touch: By a finger.

    Returns:
        The milliseconds until the browser shows the redraw.
    """
    element = control.element
    element.scroll_into_view_if_needed()
    if control.keys == KEYS["radio"]:
        other = element.evaluate_handle(OTHER).as_element()
        assert other is not None
        element = other
    box = element.bounding_box()
    assert box is not None
    x, y = (
        box["x"] + share * box["width"],
        box["y"] + box["height"] * (share if control.keys == KEYS["canvas"] else 0.5),
    )

    def act() -> None:
        if control.keys == KEYS["select-one"]:  # the list of options is not a part of the page
            count = element.evaluate("(menu) => menu.options.length")
            element.select_option(index=round(share * (count - 1)))
        elif touch:
            page.touchscreen.tap(x, y)
        else:
            page.mouse.move(x - 3, y)
            page.mouse.down()
            page.mouse.move(x, y)
            page.mouse.up()

    return until_drawn(page, widget, act, limit=4)


def moves(page: Page, widget: Widget, control: Control, by: str = "keyboard") -> bool:
    """Whether some movement of a control, forward or back, gives another picture.

    Args:
        page: Where the widget is.
        widget: Any; by pointer or touch, a live figure.
        control: One of its controls.
        by: "keyboard", "pointer" or "touch".
    """
    before = content(page, widget)
    keys = [*control.keys, *3 * control.keys[:1]]
    for step in keys if by == "keyboard" else (0.7, 0.3, 1.0, 0.1):
        with suppress(TimeoutError):  # at the end of its range: nothing to redraw
            if isinstance(step, str):
                press(page, widget, control, step, limit=4)
            else:
                point(page, widget, control, min(step, 0.97), touch=by == "touch")
        found = errors(page)
        assert not found, found
        if content(page, widget) != before:
            return True
    return False


def _key(element: ElementHandle, key: str) -> None:
    element.focus()
    element.press(key)


def until_drawn(page: Page, widget: Widget, act: Callable[[], None], limit: float) -> float:
    """Act on a live figure; return the milliseconds until the browser shows the redraw."""
    drawn = widget.picture.evaluate("(place) => place.dataset.drawn")
    act()
    page.wait_for_function(
        "([place, drawn]) => place.dataset.drawn !== drawn",
        arg=[widget.picture, drawn],
        timeout=1000 * limit,
    )
    return float(widget.picture.evaluate("(place) => place.dataset.ms"))
