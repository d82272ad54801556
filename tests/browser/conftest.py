"""Nothing here is skipped: without a browser the tests fail, and say what to install."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from live import Lab, open_browser, open_lab
from playwright.sync_api import Browser, Page
from publish import publish


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with open_browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab"), FASTFLOW_EPOCHS="1") as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    yield page
    context.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The whole site, with the notebooks as they were committed; written once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "site"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            publish(folder.with_name("half"))
            folder.with_name("half").rename(folder)
    return folder


@pytest.fixture
def offline(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Make a page of a width that can read files and nothing else; what goes wrong is kept."""
    contexts = []

    def open_page(width: int, **options) -> tuple[Page, list[str]]:
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.route(
            re.compile("^(?!file:|data:|blob:)"),
            lambda route: (wrong.append(route.request.url), route.abort()),
        )
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()
