"""The notebooks' runner: what it reports, what it lets pass, what its pages hold."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run
from links import slugs
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import card, cover, formula_errors, highlighting, promise, render, text_page
from watchdog import Watchdog, processor_seconds, yardstick

TEXT = "# A title\n\nWhat you will be able to do, e.g. this. And more."
DOT = (  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PARAMETERS = new_code_cell("N = 3", metadata={"tags": ["parameters"]})


def write(folder: Path, name: str, *sources: str, tags: tuple[str, ...] = ()) -> Path:
    """Write a notebook of text, parameters and the given cells, the last of them with tags."""
    cells = [new_code_cell(source) for source in sources]
    cells[-1].metadata.tags = list(tags)
    notebook = new_notebook(cells=[new_markdown_cell(TEXT), PARAMETERS.copy(), *cells])
    nbformat.write(notebook, folder / name)
    return folder / name


def test_html_reports_a_failing_cell_and_executes_the_others(tmp_path, capsys):
    write(tmp_path, "01_bad.ipynb", "import sys\n{}['absent']")
    write(tmp_path, "02_good.ipynb", "'a table'", tags=("results",))
    pages = tmp_path / "pages"
    assert run.main(["html", "--folder", str(tmp_path), "--output", str(pages)]) == 1
    out, err = capsys.readouterr()
    expected = (
        "01_bad.ipynb: cell [2]:\n    import sys\n    {}['absent']\n\n    KeyError: 'absent'\n"
    )
    assert err == expected
    assert re.search(r"^01_bad.ipynb \.\.\. \d+\.\d s$", out, re.MULTILINE)
    assert out.endswith(f" s\n\n'a table'\n\nThe notebooks as pages: {pages / 'index.html'}\n")
    index = (pages / "index.html").read_text()
    assert "failed" in index and 'href="02_good.html"' in index
    assert 'href="01_bad.html" rel="prev"' in (pages / "02_good.html").read_text()


WAIT = """import os, pathlib, subprocess
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
print("here", flush=True)
child.wait()"""
LOOP = WAIT.replace("child.wait()", "while True: pass")


@pytest.mark.parametrize(
    ("cell", "reason"), [(WAIT, "it did nothing and said"), (LOOP, "it computed for")]
)
def test_a_cell_that_hangs_is_stopped_with_all_it_started(tmp_path, cell, reason):
    path = write(tmp_path, "01_hangs.ipynb", cell)
    done = run.execute(path, work=20 * yardstick(), rest=3)
    assert done.failure.startswith(f"stopped: {reason}")
    assert ", in cell [2]:\n    import os" in done.failure
    assert done.notebook.cells[2].outputs[0].text == "here\n"
    for process in (tmp_path / "pids").read_text().split():
        assert not is_alive(int(process))


HINDER = """import os, signal, time
kernel = os.getppid()
while os.getppid() == kernel:
    for act, seconds in ((signal.SIGSTOP, 0.2), (signal.SIGCONT, 0.05)):
        os.kill(kernel, act)
        time.sleep(seconds)"""
SLOW = """import subprocess, sys, time
hinder = subprocess.Popen([sys.executable, "-c", HINDER])
seconds, worked = time.perf_counter(), time.process_time()
while time.process_time() < worked + WORK / 2:
    pass
hinder.kill()
assert time.perf_counter() > seconds + WORK, 'this machine was not slow'"""
TALK = """for _ in range(3):
    worked = time.process_time()
    while time.process_time() < worked + 0.7 * WORK:
        pass
    print("still here", flush=True)"""


def test_neither_a_slow_machine_nor_a_long_cell_that_talks_is_stopped(tmp_path):
    """The kernel stands still four fifths of the time, as among many busy neighbours."""
    work = 20 * yardstick()
    given = f"WORK, HINDER = {work}, {HINDER!r}"
    path = write(tmp_path, "01_slow.ipynb", given, SLOW, TALK)
    assert run.execute(path, work=work, rest=10).failure is None


def test_many_cores_use_the_patience_up_no_sooner_than_two():
    """Threads that wait for each other use processor seconds, on 64 cores 64 a second."""
    watchdog = Watchdog(work=100, rest=10)
    assert not any(watchdog.look(worked=64 * second, signs=1) for second in range(50))
    assert any(watchdog.look(worked=64 * second, signs=1) for second in range(50, 60))


def test_what_ended_has_worked_too():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = (
        "import subprocess, sys\n"
        f"for _ in range(2): subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print(flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert processor_seconds(process.pid) > 0.4  # counted in ticks
        process.communicate(b"\n")


def is_alive(process: int) -> bool:
    state = ["ps", "-o", "stat=", "-p", str(process)]
    listing = subprocess.run(state, capture_output=True, text=True, check=False).stdout
    return listing.strip()[:1] not in ("", "Z")  # Z: dead, but its parent has not heard


def test_inplace_uses_this_python_and_repeats_itself(tmp_path, monkeypatch, capsys):
    other = tmp_path / "home" / ".local" / "share" / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "another", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in run.COMMITTED:
        monkeypatch.setenv(name, "7")  # and undone after the test
    path = write(
        tmp_path,
        "01_good.ipynb",
        "import torch\nassert torch.get_num_threads() == 1",
        f"import os, sys\nassert sys.executable == {sys.executable!r}\n"
        f"assert os.getcwd() == {str(tmp_path)!r}\nassert os.environ['FASTFLOW_STATIC'] == '1'",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "from ipywidgets import IntSlider\nslider = IntSlider()",
    )
    versions = []
    for _ in range(2):
        assert run.main(["inplace", "--folder", str(tmp_path)]) == 0, capsys.readouterr().err
        versions.append(path.read_text())
    assert versions[0] == versions[1]
    notebook = nbformat.reads(versions[0], as_version=4)
    assert "image/png" in notebook.cells[4].outputs[0].data
    assert set(notebook.metadata) == {"fastflow", "kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (["html", "7"], None, "no notebook 7*.ipynb in"),
        (["inplace"], "mvtec", "unset FASTFLOW_DATA"),
    ],
)
def test_mistakes_are_refused(tmp_path, monkeypatch, capsys, arguments, data, message):
    write(tmp_path, "01_a.ipynb", "1")
    if data:
        monkeypatch.setenv("FASTFLOW_DATA", data)
    with pytest.raises(SystemExit, match="2"):
        run.main([*arguments, "--folder", str(tmp_path)])
    assert message in capsys.readouterr().err


@pytest.fixture
def executed(tmp_path):
    """A notebook as it is committed: executed, with every cell's number in order."""
    path = write(tmp_path, "01_good.ipynb", "print(N)", "N + 1")
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells[1:], 1):
        cell.execution_count = number
    notebook.cells[2].outputs = [new_output("stream", text="3\n")]
    notebook.metadata.language_info = {"name": "python"}
    run.save_in_place(run.Run(path, notebook, 1.0, None))
    return path, notebook


def test_check_passes_what_was_executed(executed):
    assert run.check(executed[0]) == []


def source_edited(cells):
    cells[2].source = "print(N + 1)"


def cell_executed_twice(cells):
    cells[2].execution_count = 7


def output_is_an_error(cells):
    cells[2].outputs = [new_output("error", ename="E", evalue="", traceback=[])]


def output_on_stderr(cells):
    cells[2].outputs = [new_output("stream", name="stderr", text="a warning")]


def output_is_a_live_widget(cells):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": ""}
    cells[2].outputs = [new_output("display_data", data)]


def output_names_the_home(cells):
    cells[2].outputs = [new_output("stream", text=f"{Path.home()}/data")]


def output_names_a_temporary_folder(cells):
    cells[3].outputs = [new_output("execute_result", {"text/plain": "'/tmp/x'"})]


def notebook_too_large(cells):
    cells[2].outputs = [new_output("display_data", {"image/png": "A" * 3_100_000})]


def cell_too_long(cells):
    cells[2].source = "\n".join(["N"] * 26)


def cells_too_long(cells):
    cells[2].source = cells[3].source = "\n".join(["N"] * 9)


def too_many_cells(cells):
    cells.extend(new_code_cell("N", execution_count=4 + i) for i in range(58))


def no_parameters(cells):
    del cells[1].metadata["tags"]


def formula_misspelt(cells):
    cells[0].source += " $\\fraction{1}{2}$"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (source_edited, "not what was executed"),
        (cell_executed_twice, "from top to bottom"),
        (output_is_an_error, "an error"),
        (output_on_stderr, "stderr"),
        (output_is_a_live_widget, "widget"),
        (output_names_the_home, "this machine"),
        (output_names_a_temporary_folder, "/tmp/x"),
        (notebook_too_large, "3 MB"),
        (cell_too_long, "26 lines"),
        (cells_too_long, "median"),
        (too_many_cells, "61 code cells"),
        (no_parameters, "'parameters'"),
        (formula_misspelt, "fraction"),
    ],
)
def test_check_names_the_problem(executed, damage, problem):
    path, notebook = executed
    damage(notebook.cells)
    if damage is not source_edited:
        notebook.metadata.fastflow.executed = run._digest(notebook)
    nbformat.write(notebook, path)
    (found,) = run.check(path)
    assert problem in found


def test_check_names_widget_state(executed):
    path, notebook = executed
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(notebook, path)
    assert run.check(path) == ["it holds widget state"]


def test_pages_typeset_formulas_embed_figures_and_fetch_nothing():
    text = (
        "# Flows\n\n$\\log\\left|\\det\\frac{\\partial z}{\\partial x}\\right|$\n\n"
        "$$\\begin{aligned} z_a &= x_a \\\\ z_b &= \\hat x_b \\end{aligned}$$\n\n"
        "\\begin{equation}\\sum_{i=1}^n \\lVert x_i \\rVert\\end{equation}\n\n"
        "[next](04_fastflow.ipynb#loss) [layout](../data/README.md)"
    )
    figure = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    script = new_output("display_data", {"application/javascript": "alert(1)"})
    cell = new_code_cell("plot()", outputs=[figure, script])
    page = render(new_notebook(cells=[new_markdown_cell(text), cell]))
    text = page.partition("<main")[2].partition("</main>")[0]
    assert text.count("<math") == 3 and "$" not in text and "\\frac" not in text
    assert "<mtable" in page and "<msup>" not in page
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page
    assert 'href="04_fastflow.html#loss"' in page and 'href="../../data/README.md"' in page
    assert not re.search(r"alert|<script [^>]*src|<link|https?://|@import|url\(", page)
    assert formula_errors(page) == []


def test_anchors_of_a_page_are_githubs():
    text = (
        "# A\n\n[down](#f1-score) [out](glossary.md#f1-score)\n\n## F1 score\n\n## The `Flow`, $z$"
    )
    cells = [new_markdown_cell(text), new_markdown_cell("## F1 score\n\n```\n# none\n```")]
    page = render(new_notebook(cells=cells))
    anchors = re.findall(r'<h\d id="(.*?)"', page)
    assert anchors == slugs("\n\n".join(cell.source for cell in cells))
    assert anchors == ["a", "f1-score", "the-flow-z", "f1-score-1"]
    assert 'href="#f1-score"' in page and 'href="glossary.html#f1-score"' in page


def test_contents_lead_to_every_section_and_no_level_is_left_out():
    text = "# A\n\n### The `Flow`, $z$\n\n#### B [c](d.md)\n\n### E\n\n##### F"
    page = text_page(text)
    beside, above = re.findall(r"<ol>(.*?)</ol>", page)
    assert beside == above
    assert re.findall(r'level-(\d)"><a href="#([\w-]+)"', beside) == [
        ("2", "the-flow-z"),
        ("3", "b-c"),
        ("2", "e"),
        ("3", "f"),
    ]
    assert "<code>Flow</code>, <math>" in beside and beside.count("<a ") == 4
    assert re.findall(r"<h(\d) id", page) == ["1", "2", "3", "2", "3"]
    assert "<ol>" not in text_page("# A\n\n## B")


def test_a_page_tells_its_title_and_its_promise():
    page = text_page('# A <b>\n\nWhat *you* [learn](x.md), "$z$". More.')
    assert "<title>A &lt;b&gt; - FastFlow notebooks</title>" in page
    assert """content='What you learn, "z".'""" in page
    assert "<title>FastFlow notebooks</title>" in text_page("# FastFlow notebooks\n\nText.")


def test_code_folds_and_what_may_be_wide_is_in_a_box_that_scrolls():
    html = new_output("display_data", {"text/html": "<table><th></th></table>"})
    outputs = [html, *(new_output("stream", text=text) for text in ("one\n", "one\ntwo\n"))]
    cells = [
        new_markdown_cell("# A\n\n$$x$$\n\n|a|\n|-|\n|b|\n\n```\nc\n```"),
        new_code_cell("d\ne", outputs=outputs),
    ]
    page = re.sub(r">\s+<", "><", render(new_notebook(cells=cells)))
    assert '<details class="code" open=""><summary>Code, 2 lines</summary>' in page
    boxes = re.findall(r'<(\w+)[^>]* data-what="(\w+)"[^>]*>', page.replace("<pre ", "<pre x "))
    assert boxes == [
        ("span", "formula"),
        ("div", "table"),
        ("pre", "code"),
        ("pre", "code"),
        ("div", "table"),
        ("pre", "output"),
        ("pre", "output"),
    ]
    assert page.count('class="line"') == 1  # wrapped; what has lines of its own scrolls
    assert "<td></td>" in page and "<th></th>" not in page  # an empty heading is none


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_code_stands_out_in_the_light_and_in_the_dark():
    style = (run.NOTEBOOKS / "page.css").read_text()
    (papers,) = re.findall(r"--soft: light-dark\((\S+), (\S+)\)", style)
    rules = re.findall(r"\.(\w+) \{.*light-dark\((\S+), (\S+)\)", highlighting())
    assert len(rules) > 40
    for name, *colours in rules:
        for colour, paper in zip(colours, papers, strict=True):
            dark, light = sorted(luminance(one) for one in (colour, paper))
            # White space is not seen, and an error's box has its own colour.
            assert (light + 0.05) / (dark + 0.05) >= 4.5 or name in ("w", "err"), (name, colour)


def test_what_unfolds_is_inside_and_choices_show_their_verdict():
    text = (
        "<details><summary>a) this</summary>\n\nRight. Since $x > y$.\n\nMore.\n\n</details>\n"
        "<details><summary>b) that</summary>\n\nWrong. *No*.\n\n</details>\n\n"
        "<details><summary>Answers</summary>\n\n1. So.\n\n</details>\n\nAfter."
    )
    page = re.sub(r">\s+<", "><", text_page(text))
    assert '<details class="right"><summary>a) this</summary><p><b>Right.</b> Since <math>' in page
    assert '<p>More.</p></details><details class="wrong"><summary>b) that</summary><p><b>' in page
    assert "<details><summary>Answers</summary><ol><li>So.</li></ol></details><p>After." in page


def test_the_index_has_picture_title_promise_and_time():
    figure = new_output("display_data", {"image/png": f"{DOT}\n", "text/plain": ""})
    cell = new_code_cell("plot()", outputs=[figure], metadata={"tags": ["cover"]})
    notebook = new_notebook(cells=[new_markdown_cell(TEXT.replace("title", "<b>")), cell])
    assert cover(notebook) == f"data:image/png;base64,{DOT}"
    page = text_page(card(notebook, "01_a.html", "runs in 3 s"))
    for part in (
        "A &lt;b&gt;",
        "able to do, e.g. this.",
        "in 3 s",
        'href="01_a.html"',
        DOT,
        'height="1"',
    ):
        assert part in page, part
    del cell.metadata["tags"]
    without = card(notebook, "01_a.html", "")
    assert cover(notebook) is None and "<img" not in without and "<small>" not in without


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("04_fastflow.ipynb#loss", "04_fastflow.html#loss"),
        ("solutions/04_fastflow.ipynb", "solutions/04_fastflow.html"),
        ("../04_fastflow.ipynb", "../04_fastflow.html"),  # from a solution
        ("notation.md", "notation.html"),
        ("glossary.md#f1-score", "glossary.html#f1-score"),
        ("../teaching.md", "../teaching.html"),  # from a solution
        ("../data/README.md", "../../data/README.md"),  # of the repository, from build/html
        ("../tests/benchmarks/README.md#course", "../../tests/benchmarks/README.md#course"),
        ("https://arxiv.org/abs/2111.07677", "https://arxiv.org/abs/2111.07677"),
    ],
)
def test_links_of_a_page_lead_to_pages(link, page):
    assert f'href="{page}"' in text_page(f"[there]({link})")


def test_a_promise_is_the_first_sentence():
    notebook = new_notebook(cells=[new_markdown_cell(TEXT)])
    assert promise(notebook) == "What you will be able to do, e.g. this."
