"""The parts of the site: where links lead, what the search knows, the reference, the wall."""

import base64
import io
import re
from pathlib import Path

import pytest
import reference
import search
import wall
from layout import ROOT, Layout
from links import repository
from pages import formula_errors
from PIL import Image

from fastflow_utils.course.cases import measured

HOMES = {"README.md": "about.html", "fastflow_utils/data": "reference/fastflow_utils/data.html"}


@pytest.mark.parametrize(
    ("url", "page", "expected"),
    [
        ("../README.md#results", "04.html", "about.html#results"),
        ("../README.md", "solutions/04.html", "../about.html"),
        ("../fastflow_utils/data", "04.html", "reference/fastflow_utils/data.html"),
        ("../LICENSE", "04.html", f"{repository()}/blob/main/LICENSE"),
        ("../tests/browser", "04.html", f"{repository()}/tree/main/tests/browser"),
        ("https://arxiv.org/abs/1", "04.html", "https://arxiv.org/abs/1"),
        ("#here", "04.html", "#here"),
    ],
)
def test_a_link_leads_to_a_page_or_to_the_repository(url: str, page: str, expected: str):
    layout = Layout(Path("site"), homes=HOMES)
    assert layout.place(url, ROOT / "notebooks" / "04.ipynb", page) == expected


def test_a_page_has_the_menu_the_note_and_the_pictures_of_other_folders(tmp_path: Path):
    layout = Layout(tmp_path, {"Course": "index.html"}, HOMES, "where it comes from")
    text = "# A\n\n![b](../../notebooks/figures/bottle.png) [c](../../README.md)"
    layout.write("in/a.html", text, ROOT / "tests" / "benchmarks" / "README.md")
    page = (tmp_path / "in" / "a.html").read_text()
    assert '<a href="../index.html">Course</a>' in page and '<a href="../about.html">c</a>' in page
    assert 'src="data:image/png;base64,' in page and "where it comes from" in page
    with Image.open(ROOT / "notebooks" / "figures" / "bottle.png") as picture:
        assert f'height="{picture.height}"' in page and f'width="{picture.width}"' in page


def test_the_course_alone_links_to_the_repository_on_the_disk(tmp_path: Path):
    Layout(tmp_path).write("a.html", "# A\n\n[b](../README.md)", ROOT / "notebooks" / "a")
    assert 'href="../../README.md"' in (tmp_path / "a.html").read_text()


def test_the_index_holds_what_is_read_and_no_code(tmp_path: Path):
    main = (
        '<main><h1 id="a">A<a class="anchor-link">¶</a></h1><p>One <b>two</b></p><p>three</p>'
        '<details class="code"><pre>x = 1</pre></details><h2 id="b">B <code>c</code></h2>'
        '<img alt="" src="data:image/png;base64,AAAA"><script>no()</script>four</main><p>five</p>'
    )
    assert search.sections(main) == [("a", "A", "One two three"), ("b", "B c", "four")]
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "a.html").write_text(main)
    size = search.write(Layout(tmp_path))
    index = (tmp_path / search.INDEX).read_text()
    assert size == len(index.encode()) and '["reference/a.html","A","Reference"]' in index
    assert '[0,"b","B c","four"]' in index


def test_the_reference_shows_signatures_formulas_examples_and_sources():
    names = [f"fastflow_utils.{name}" for name in ("detector", "detector.flows")]
    names += [f"fastflow_utils.{name}" for name in ("detector.metrics", "detector.metric_classes")]
    found = reference.described(names)
    flows, metrics = found[names[1]], found[names[2]]
    assert flows.summary.startswith("2-D normalizing flows")
    assert (2, "ActNorm", "ActNorm") in flows.headings
    assert (3, "ActNorm.inverse", "inverse") in flows.headings
    assert not any("_Chain" in anchor for _, anchor, _ in flows.headings)
    for page in found.values():
        assert formula_errors(page.html) == []
        assert "<code>~" not in page.html  # Sphinx's sign for a name without its module
        assert ":math:" not in re.sub(r"<pre\b.*?</pre>", "", page.html, flags=re.DOTALL)
        for _, anchor, _ in page.headings:
            assert page.html.count(f'id="{anchor}"') == 1, anchor
    assert flows.html.count("<math") > 12 and '<math display="block">' in flows.html
    assert '<span class="gp">&gt;&gt;&gt; </span>' in flows.html
    assert "<summary>Source of ActNorm</summary>" in flows.html
    text = re.sub("<[^>]*>", "", metrics.html)
    assert re.search(r"def aupro\(\s*maps: torch.Tensor \| numpy.typing.ArrayLike,", text)


def test_links_of_the_reference_lead_to_where_a_name_is_described():
    names = [
        "fastflow_utils",
        "fastflow_utils.detector.model",
        "fastflow_utils.detector.backbones",
    ]
    found = reference.described(names)
    assert 'href="fastflow_utils/detector/model.html#FastFlow"' in found[names[0]].html
    assert 'href="backbones.html#Backbone"' in found[names[1]].html


def test_the_wall_holds_every_recorded_score_beside_its_picture():
    data, table = wall.data(), measured()
    assert data == wall.data()
    assert [one["name"].replace(" ", "_") for one in data["categories"]] == sorted(
        set(table.category)
    )
    for category, (_, rows) in zip(data["categories"], table.groupby("category"), strict=True):
        assert category["labels"] == rows.label.tolist()
        assert category["scores"] == [rows[column].tolist() for column in wall.DETECTORS]
        raw = base64.b64decode(category["sheet"].partition(",")[2])
        with Image.open(io.BytesIO(raw)) as sheet:
            columns, lines = sheet.width // data["side"], sheet.height // data["side"]
        assert columns == data["columns"] and columns * (lines - 1) < len(rows) <= columns * lines
    assert sum(len(one["sheet"]) for one in data["categories"]) < 1.5e6


def test_the_wall_says_what_it_shows_without_a_script():
    html = wall.picture()
    assert html.count("<figure>") == 15 and "sample set" in html
    assert len(re.findall(r'alt="\w[^"]+ with the defect [^"]+, sample set"', html)) == 15
    assert "<b>metal nut</b> <span>AUROC 0.990</span>" in html
