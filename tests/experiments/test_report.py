"""A report: what makes one row, what stays out of it and is said, and the four formats."""

import html
import io
import itertools
import json
import math
import os
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastflow_utils.data.layout import MVTEC_AD, SAMPLE_SET
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import tables
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.records import write_replicates
from fastflow_utils.experiments.report import FORMATS, collect, report
from fastflow_utils.experiments.tables import (
    CATEGORIES,
    MEASURED,
    METRICS,
)

every_format = pytest.mark.parametrize("name", FORMATS)


def write(folder: Path, category: str, seed: int = 0, value: float = 0.5, **more: object) -> Path:
    """Leave what a run of `reproduce` leaves."""
    facts = {
        "key": "k",
        "recipe": asdict(recipe_for("resnet18")),
        "weights": None,
        "weights_sha256": None,
        "root": str(folder / "data"),
        "data": MVTEC_AD,
        "data_sha256": "d",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "code_sha256": "c",
        "status": "finished",
        "error": None,
    }
    run = {"category": category, "seed": seed, **facts} | more
    metrics = {
        **{name: run[name] for name in ("category", "data", "seed", "recipe", "versions")},
        "sample_set": run["data"] == SAMPLE_SET,
        "code_sha256": run["code_sha256"],
        **dict.fromkeys(METRICS, value),
        **{name: None for name in run.get("without", ())},
        "label_free": {"image_f1": value / 2, "pixel_f1": value / 4},
        "seconds": {"total": 100 * value},
        "device": "cpu",
    }
    backbone = run["recipe"]["backbone"]
    place = folder / "runs" / backbone / category / f"seed{seed}-{run['key']}"
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(run))
    if run["status"] == "finished":
        (place / "metrics.json").write_text(json.dumps(metrics))
    return place


def complete(folder: Path, **more: object) -> None:
    """All fifteen, two seeds; a category's metrics are 0.50, 0.51, ..., 0.02 more for seed 1."""
    for seed in (0, 1):
        for place, category in enumerate(CATEGORIES):
            write(folder, category, seed, 0.5 + 0.01 * place + 0.02 * seed, **more)


def rows(folder: Path, metric: str = "image_auroc") -> pd.DataFrame:
    """Our rows of one table."""
    (means,) = (each.means for each in collect(folder).sections if each.metric == metric)
    return means[means.index.str.startswith(("ours", "sample set"))]


def notes(folder: Path) -> str:
    return "\n".join(collect(folder).notes)


# Rows


def test_all_metrics_of_the_sample_set_say_so_and_have_nothing_beside_them(tmp_path: Path):
    complete(tmp_path, data=SAMPLE_SET)
    sections = collect(tmp_path).sections
    assert [each.title for each in sections] == [f"{x}, sample set" for x in MEASURED.values()]
    for each in sections:
        assert list(each.means.index) == ["sample set, resnet18"]
        assert each.sources.str.contains(r"2 seeds \(0, 1\)").all()
        factor = {"label_free_image_f1": 1 / 2, "label_free_pixel_f1": 1 / 4, "seconds_total": 100}
        expected = pd.Series([0.58, *(0.51 + 0.01 * place for place in range(15))])
        expected *= factor.get(each.metric, 1)
        assert each.means.iloc[0].tolist() == pytest.approx(expected.tolist())
        spread = 0.02 / math.sqrt(2) * factor.get(each.metric, 1)
        assert each.spreads.iloc[0].tolist() == pytest.approx([spread] * 16)
        assert (each.seeds == 2).all(axis=None)


def test_on_mvtec_ad_every_published_row_is_there_with_its_source(tmp_path: Path):
    write(tmp_path, "tile")
    for each in collect(tmp_path).sections:
        assert each.title.endswith(", MVTec AD")
        assert list(each.means.index[1:]) == list(tables.published(each.metric).index)
        assert list(each.sources.index) == list(each.means.index)
        for name in each.means.index[1:]:
            assert tables.sources().source[name] in each.sources[name]
        named = "; ".join(line.partition(": ")[0] for line in each.footnotes())
        assert sorted(named.split("; ")) == sorted(each.means.index)


def test_the_sample_set_and_mvtec_ad_have_tables_of_their_own(tmp_path: Path):
    write(tmp_path, "tile", key="a", data=SAMPLE_SET)
    write(tmp_path, "tile", key="b")
    drawn, real = collect(tmp_path).sections[:: len(MEASURED)]
    assert list(drawn.means.index) == ["sample set, resnet18"]
    assert "sample set" not in " ".join(real.means.index)


def test_recipes_have_rows_of_their_own_named_by_what_differs(tmp_path: Path):
    given = {
        "resnet18": recipe_for("resnet18"),
        "resnet18, epochs 1": recipe_for("resnet18", epochs=1),
        "deit_base_distilled_384": recipe_for("deit_base_distilled_384"),
        "resnet18.a1_in1k, steps 4": recipe_for("resnet18.a1_in1k", steps=4),
        "convnext_tiny": recipe_for("convnext_tiny"),
    }
    for key, (value, recipe) in enumerate(enumerate(given.values(), 1)):
        write(tmp_path, "tile", 0, value / 10, recipe=asdict(recipe), key=str(key))
    found = rows(tmp_path)["Tile"]
    expected = {f"ours, {name}": value / 10 for value, name in enumerate(given, 1)}
    assert found.to_dict() == pytest.approx(expected)


def test_weights_and_versions_tell_rows_of_one_recipe_apart(tmp_path: Path):
    write(tmp_path, "tile", 0, 0.1, key="a")
    own = {"weights": "/some/where/own.pth", "weights_sha256": "0123456789abcdef"}
    write(tmp_path, "tile", 0, 0.2, key="b", **own)
    newer = {"python": "3.11.7", "torch": "2.16.0"}
    write(tmp_path, "tile", 0, 0.3, key="c", versions=newer)
    assert rows(tmp_path)["Tile"].to_dict() == {
        "ours, resnet18, weights as downloaded, torch 2.15.0": 0.1,
        "ours, resnet18, weights own.pth 0123456789ab, torch 2.15.0": 0.2,
        "ours, resnet18, weights as downloaded, torch 2.16.0": 0.3,
    }


def test_precision_and_code_tell_rows_of_one_recipe_apart(tmp_path: Path):
    for value, precision in ((0.1, "float32"), (0.2, "bfloat16")):
        recipe = asdict(recipe_for("resnet18", precision=precision))
        write(tmp_path, "tile", 0, value, key=precision, recipe=recipe)
    assert rows(tmp_path)["Tile"].to_dict() == {
        "ours, resnet18, float32": 0.1,
        "ours, resnet18, bfloat16": 0.2,
    }
    section = collect(tmp_path).sections[0]
    for name in ("float32", "bfloat16"):
        assert f"measured on cpu in {name}; " in section.sources[f"ours, resnet18, {name}"]
    recipe = asdict(recipe_for("resnet18", precision="float32"))
    write(tmp_path, "tile", 0, 0.3, key="newer", recipe=recipe, code_sha256="d")
    assert len(rows(tmp_path)) == 3 and "ours, resnet18, float32, code d" in rows(tmp_path).index


def test_a_failure_in_one_precision_is_not_a_failure_in_the_other(tmp_path: Path):
    for precision, status in (("float32", "finished"), ("bfloat16", "failed")):
        recipe = asdict(recipe_for("resnet18", precision=precision))
        write(tmp_path, "tile", key=precision, recipe=recipe, status=status, error="no memory")
    assert rows(tmp_path)["Tile"].tolist() == [0.5] and "no memory" in notes(tmp_path)


def test_other_data_has_sections_of_its_own_and_no_published_row(tmp_path: Path):
    """Twelve pictures of one's own in a folder called zipper are not MVTec AD's zipper."""
    write(tmp_path, "zipper", 0, 0.9, data="factory", key="own")
    write(tmp_path, "gear", 0, 0.7, data="factory")
    write(tmp_path, "lid", data="factory", status="failed", error="000.png is no image")
    for each in collect(tmp_path).sections:
        assert each.title.endswith(", factory")
        assert list(each.means.index) == ["ours, resnet18"]
        assert list(each.means.columns) == ["Avg", "gear", "lid", "zipper"]
        assert each.means[["Avg", "lid"]].isna().all(axis=None), "lid failed"
        assert each.means[["gear", "zipper"]].notna().all(axis=None)
    for name in FORMATS:
        assert "factory" in report(tmp_path, name) and "PatchCore" not in report(tmp_path, name)
    write(tmp_path, "zipper", 0, 0.8, key="official")
    write(tmp_path, "tile", 0, 0.6, data=SAMPLE_SET)
    titles = [each.title for each in collect(tmp_path).sections[:: len(MEASURED)]]
    assert titles == [f"image AUROC, {data}" for data in (SAMPLE_SET, MVTEC_AD, "factory")]


def test_a_plain_run_is_a_row_but_not_one_with_runs_whose_weights_are_known(tmp_path: Path):
    plain = write(tmp_path, "tile", 0, 0.1, key="a")
    (plain / "run.json").unlink()
    assert rows(tmp_path)["Tile"].to_dict() == {"ours, resnet18": 0.1}
    write(tmp_path, "tile", 1, 0.2, key="b")
    assert sorted(rows(tmp_path)["Tile"]) == [0.1, 0.2]


def test_of_two_runs_of_one_category_and_seed_the_newer_counts_and_a_note_says_so(tmp_path: Path):
    old, new = (write(tmp_path, "tile", 0, value, key=f"k{value}") for value in (0.9, 0.2))
    for place, time in {old: 1e9, new: 2e9}.items():
        os.utime(place / "metrics.json", (time, time))
    assert rows(tmp_path)["Tile"].tolist() == [0.2]
    assert re.search("Left out: tile.*seed 0.*k0.9", notes(tmp_path))
    os.utime(old / "metrics.json", (3e9, 3e9))
    assert rows(tmp_path)["Tile"].tolist() == [0.9]


def test_seeds_on_data_that_has_changed_since_are_not_mixed_in(tmp_path: Path):
    for seed in (0, 1):
        old = write(tmp_path, "tile", seed, 0.9, data_sha256="old", key="old")
        os.utime(old / "metrics.json", (1e9, 1e9))
    write(tmp_path, "tile", 0, 0.2, data_sha256="new", key="new")
    write(tmp_path, "wood", 0, 0.3, data_sha256="wood")
    found = rows(tmp_path).iloc[0]
    assert found["Tile"] == 0.2 and found["Wood"] == 0.3
    assert notes(tmp_path).count("newer runs are on other images") == 2


def test_seeds_are_named_also_where_a_category_has_fewer(tmp_path: Path):
    for category, seed in [("tile", 0), ("tile", 3), ("wood", 3)]:
        write(tmp_path, category, seed)
    section = collect(tmp_path).sections[0]
    assert "2 seeds (0, 3; of wood 3 only)" in section.sources["ours, resnet18"]
    seeds = section.seeds.loc["ours, resnet18"]
    assert seeds[["Tile", "Wood", "Screw", "Avg"]].tolist() == [2, 1, 0, 0]
    assert section.seeds.loc["anomalib, R18"].isna().all()


def test_a_partial_row_has_no_average(tmp_path: Path):
    complete(tmp_path, data=SAMPLE_SET)
    assert rows(tmp_path)["Avg"].notna().all()
    (tmp_path / "runs/resnet18/screw/seed1-k/metrics.json").unlink()
    assert rows(tmp_path)["Avg"].isna().all() and rows(tmp_path)["Screw"].notna().all()


def test_a_category_whose_data_cannot_give_a_metric_is_a_dash_and_named_beside_the_average(
    tmp_path: Path,
):
    """A factory without masks of lids, and two seeds of each."""
    of_pixels = ("pixel_auroc", "pixel_f1", "aupro")
    for seed, (category, value) in itertools.product((0, 1), {"nut": 0.5, "bolt": 0.7}.items()):
        write(tmp_path, category, seed, value, data="factory")
    for seed in (0, 1):
        write(tmp_path, "lid", seed, 0.3, data="factory", without=of_pixels)
    sections = {each.metric: each for each in collect(tmp_path).sections}
    for metric in of_pixels:
        row = sections[metric].means.loc["ours, resnet18"]
        assert math.isnan(row["lid"]) and row["Avg"] == pytest.approx(0.6)
        (source,) = sections[metric].sources
        assert "average over 2 of 3 categories, without lid" in source
    assert sections["image_auroc"].means.loc["ours, resnet18", "Avg"] == pytest.approx(0.5)
    assert "average over" not in sections["image_auroc"].sources.iloc[0]
    for name in FORMATS:
        written = report(tmp_path, name)
        assert "average over 2 of 3 categories" in written
        assert not re.search(r"\b(nan|none)\b", written, re.IGNORECASE)
    (tmp_path / "runs/resnet18/nut/seed1-k/metrics.json").unlink()
    assert rows(tmp_path, "aupro")["Avg"].isna().all(), "a run that is missing is no such reason"


STRANGE = (
    "a|b",
    "<i>c</i> & d",
    "e_f $g% #h {i} ~^",
    "&lt;",
    "j\nk \\ l",
    "ü 漢",
    "m" * 90,
    "Tile",
)


@every_format
def test_a_category_may_have_any_name_in_every_format(tmp_path: Path, name: str):
    for key, category in enumerate(STRANGE):
        recipe = asdict(recipe_for("resnet18"))
        place = write(tmp_path, f"c{key}", recipe=recipe, data="<fac|tory>")
        for file in (place / "metrics.json", place / "run.json"):
            values = json.loads(file.read_text()) | {"category": category}
            file.write_text(json.dumps(values))
    written = report(tmp_path, name)
    columns = len(STRANGE) + 1
    if name == "csv":
        read = pd.read_csv(io.StringIO(written))
        assert set(read["category"]) == {"Avg", *STRANGE}
    elif name == "markdown":
        lines = [line for line in written.splitlines() if line.startswith("|")]
        assert {line.count("|") for line in lines} == {columns + 2}
        assert "| &lt;i>c&lt;/i> & d |" in written and " &amp;lt; |" in written
        assert "### image AUROC, &lt;fac&#124;tory>" in written
    elif name == "html":
        heads = re.findall(r"<th>(.*?)</th>", written.partition("</thead>")[0], re.DOTALL)
        assert {html.unescape(head) for head in heads} == {"", "Avg", *STRANGE}
    else:
        code = "\n".join(line for line in written.splitlines() if not line.startswith("%"))
        cells = [line for line in code.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in cells} == {columns}
        text = re.sub(r"\\(?:[\\&%$#_{}]|text\w+{})", "", code)
        assert not re.search(r"[%#_^~<>|]", text.replace("{!}{%", ""))
        assert text.count("{") == text.count("}")


def test_images_that_are_not_square_are_named_by_both_sides(tmp_path: Path):
    recipe = asdict(recipe_for("resnet18")) | {"image_size": [192, 256]}
    write(tmp_path, "nut", data="factory", recipe=recipe)
    assert "images read at 192 x 256 px" in collect(tmp_path).sections[0].sources.iloc[0]


# What did not work


def test_a_failed_run_is_a_dash_and_a_note_with_its_error(tmp_path: Path):
    write(tmp_path, "tile")
    write(tmp_path, "wood", 2, status="failed", error="000.png is no image")
    assert rows(tmp_path)["Wood"].isna().all() and rows(tmp_path)["Tile"].notna().all()
    assert "Failed: wood, resnet18, seed 2 (runs/resnet18/wood/seed2-k): 000.png is no image" in (
        notes(tmp_path)
    )


def test_a_failure_before_a_success_is_not_mentioned(tmp_path: Path):
    write(tmp_path, "tile", status="failed", error="000.png is no image", key="before")
    write(tmp_path, "tile", key="after")
    assert "no image" not in notes(tmp_path)
    write(tmp_path, "tile", 1, status="failed", error="out of memory")
    assert "out of memory" in notes(tmp_path)


def test_a_metric_of_before_does_not_stand_in_for_a_run_that_failed_since(tmp_path: Path):
    """An image was damaged between the two: the newer run, of other data, is what counts."""
    old = write(tmp_path, "tile", value=0.9, data_sha256="whole", key="before")
    os.utime(old / "metrics.json", (1, 1))
    error = "000.png is no image"
    write(tmp_path, "tile", status="failed", error=error, data_sha256="broken", key="after")
    write(tmp_path, "wood")
    assert math.isnan(rows(tmp_path)["Tile"].item()) and error in notes(tmp_path)


def test_a_recipe_of_which_nothing_succeeded_is_a_row_of_dashes(tmp_path: Path):
    write(tmp_path, "tile")
    cait = asdict(recipe_for("cait_m48_448"))
    for category in ("tile", "wood"):
        write(tmp_path, category, status="failed", error="out of memory", recipe=cait)
    found = rows(tmp_path)
    assert list(found.index) == ["ours, resnet18", "ours, cait_m48_448"]
    assert found.loc["ours, cait_m48_448"].isna().all()


def test_unfinished_runs_are_named(tmp_path: Path):
    write(tmp_path, "tile")
    write(tmp_path, "wood", status="started")
    (tmp_path / "runs/resnet18/screw/seed0-abc").mkdir(parents=True)
    (line,) = (line for line in notes(tmp_path).splitlines() if line.startswith("Unfinished"))
    assert "runs/resnet18/wood/seed0-k" in line and "runs/resnet18/screw/seed0-abc" in line


@pytest.mark.parametrize(
    "broken",
    [
        *('{"category": "wood", "se', "", "[]", "null", "{}", '{"seed": 0}'),
        '{"category": "wood", "seed": 0, "recipe": {"steps": 8}}',
        '{"category": "wood", "seed": 0, "recipe": null}',
        '{"category": 3, "seed": 0}',
        '{"category": "wood (sample set)", "seed": 0}',  # of an older version
    ],
)
def test_a_broken_file_is_named_and_costs_nothing_else(tmp_path: Path, broken: str):
    write(tmp_path, "tile")
    place = write(tmp_path, "wood")
    (place / "metrics.json").write_text(broken)
    assert rows(tmp_path)["Tile"].tolist() == [0.5] and rows(tmp_path)["Wood"].isna().all()
    assert "Left out, for it cannot be read: runs/resnet18/wood/seed0-k" in notes(tmp_path)


def test_a_metric_that_is_no_number_is_a_broken_file(tmp_path: Path):
    write(tmp_path, "tile")
    file = write(tmp_path, "wood") / "metrics.json"
    file.write_text(file.read_text().replace('"aupro": 0.5', '"aupro": "good"'))
    assert "cannot be read: runs/resnet18/wood/seed0-k" in notes(tmp_path)


def test_nothing_finished_says_what_was_looked_for_and_why_it_is_not_there(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FastFlowError, match=r"no finished run .* metrics\.json .* reproduce"):
            report(folder)
    write(tmp_path, "tile", status="failed", error="000.png is no image")
    with pytest.raises(FastFlowError, match=r"no finished run .*000\.png is no image"):
        report(tmp_path)


# Formats


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """All of the sample set, and runs that do not go well on MVTec AD."""
    complete(tmp_path, data=SAMPLE_SET, recipe=asdict(recipe_for("wide_resnet50_2")))
    write(tmp_path, "tile", 0, 0.123456789)
    write(tmp_path, "wood", status="failed", error="50 % of <it> & more_")
    return tmp_path


@every_format
def test_every_row_and_the_source_of_each_is_in_every_format(both: Path, name: str):
    written = report(both, name).replace("\\", "")
    assert "sample set, wide_resnet50_2" in written and "ours, resnet18" in written
    assert not re.search(r"\bnan\b", written, re.IGNORECASE)
    for source in tables.sources()["source"]:
        assert source in written.replace("&#x27;", "'")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "csv"])
def test_cells_are_rounded_and_missing_ones_are_dashes(both: Path, name: str):
    written = report(both, name).replace(r"$\pm$", "±").replace("--", "–")
    for shown in ("0.123", "12.3", "0.580 ± 0.014", "58.0 ± 1.4", "–"):
        assert shown in written
    assert "0.1234" not in written
    assert "50 % of" in written


def test_csv_has_a_line_for_each_cell_and_rounds_nothing(both: Path):
    read = pd.read_csv(io.StringIO(report(both, "csv")))
    columns = "table row category mean low high std seeds source"
    assert list(read.columns) == columns.split()
    assert not read.duplicated(["table", "row", "category"]).any()
    assert (read.groupby(["table", "row"])["category"].nunique() == 16).all()
    assert read["source"].notna().all()
    read = read.set_index(["table", "row", "category"]).sort_index()
    for each in collect(both).sections:
        for row in each.means.index:
            written = read.loc[(each.title, row)].loc[each.means.columns]
            assert written["mean"].equals(each.means.loc[row].rename("mean"))
            assert written["std"].equals(each.spreads.loc[row].rename("std"))
            for name, end in zip(("low", "high"), each.ends, strict=True):
                assert written[name].equals(end.loc[row].rename(name))


def test_markdown_has_as_many_cells_in_every_row(both: Path):
    lines = report(both).splitlines()
    assert {line.count("|") for line in lines if line.startswith("|")} == {18}
    assert sum(line.startswith("### ") for line in lines) == 2 * len(MEASURED) + 1
    assert "50 % of &lt;it> & more_" in report(both)


def test_html_is_a_page_whose_tags_are_closed_and_whose_text_is_escaped(both: Path):
    class Reader(HTMLParser):
        open: list[str] = []  # noqa: RUF012
        counts: list[int] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "html"):
                self.open.append(tag)
            if tag == "tr":
                self.counts.append(0)
            if tag in ("td", "th"):
                self.counts[-1] += 1

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(report(both, "html"))
    assert not reader.open and set(reader.counts) == {17}
    assert "50 % of &lt;it&gt; &amp; more_" in report(both, "html")


def test_latex_has_nothing_in_it_that_does_not_compile(both: Path):
    written = report(both, "latex")
    code = "\n".join(line for line in written.splitlines() if not line.startswith("%"))
    cells = [line for line in code.splitlines() if line.endswith(r" \\")]
    assert len(cells) > 40
    assert {len(re.findall(r"(?<!\\)&", line)) for line in cells} == {16}
    assert code.isascii()
    text = re.sub(r"\\[\\&%$#_{}]", "", code)
    assert not re.search(r"[%#_^~]", text.replace("{!}{%", ""))
    assert text.count("{") == text.count("}") and text.count("$") == 2 * text.count(r"$\pm$")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", code) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)


@every_format
def test_runs_that_left_resamples_have_intervals_in_every_format(tmp_path: Path, name: str):
    """Two seeds of tile with them; of wood one run is from before there were any."""
    for seed, category in itertools.product((0, 1), ("tile", "wood")):
        place = write(tmp_path, category, seed, 0.5)
        if (seed, category) != (0, "wood"):
            write_replicates(place, {"aupro": np.linspace(0.3, 0.7, 101)})
    (section,) = (each for each in collect(tmp_path).sections if each.metric == "aupro")
    low, high = (end.loc["ours, resnet18"] for end in section.ends)
    assert (low["Tile"], high["Tile"]) == pytest.approx((0.31, 0.69))
    assert low.drop("Tile").isna().all() and high.drop("Tile").isna().all()
    cells = section.cells().loc["ours, resnet18"]
    assert cells[["Tile", "Wood"]].tolist() == ["0.500 (0.310–0.690)", "0.500 ± 0.000"]
    written = report(tmp_path, name).replace("--", "–").replace(r"$\pm$", "±")
    expected = ["0.31"] if name == "csv" else ["0.500 (0.310–0.690)", "0.500 ± 0.000"]
    assert all(each in written for each in expected)


def test_resamples_that_cannot_be_read_are_told(tmp_path: Path):
    write(tmp_path, "tile")
    (write(tmp_path, "wood") / "bootstrap.npz").write_bytes(b"PK\3\4 no")
    assert rows(tmp_path)["Wood"].isna().all()
    assert re.search("cannot be read: runs/resnet18/wood.*holds no replicates", notes(tmp_path))


def test_an_unknown_format_is_refused(tmp_path: Path):
    with pytest.raises(FastFlowError, match="'pdf': expected one of markdown, csv, html, latex"):
        report(tmp_path, "pdf")


def test_runs_of_different_regions_are_never_averaged(tmp_path: Path):
    """Metrics of a part of the pictures, and of another part, are of other pixels."""
    regions = [None, ("0,0,9,9", "a"), ("0,0,5,5", "b")]
    for key, about in enumerate(regions):
        for seed in (0, 1):
            place = write(tmp_path, "tile", seed, 0.1 * (key + 1), key=str(key))
            looks_in(place, about)
    found = rows(tmp_path)["Tile"]
    names = ["resnet18", "resnet18, region 0,0,9,9", "resnet18, region 0,0,5,5"]
    expected = {f"ours, {name}": 0.1 * (key + 1) for key, name in enumerate(names)}
    assert found.to_dict() == pytest.approx(expected)
    assert "Left out" not in notes(tmp_path)


def looks_in(place: Path, region: tuple[str, str] | None) -> None:
    file = place / "metrics.json"
    text, digest = region or (None, None)
    about = {"region": text, "region_sha256": digest}
    file.write_text(json.dumps(json.loads(file.read_text()) | about))


def test_a_region_is_named_even_where_no_run_lacks_it(tmp_path: Path):
    looks_in(write(tmp_path, "tile"), ("roi.png", "a"))
    assert list(rows(tmp_path).index) == ["ours, resnet18, region roi.png"]


def test_of_two_masks_of_one_name_only_the_newer_counts(tmp_path: Path):
    for seed, digest in enumerate("ab"):
        place = write(tmp_path, "tile", seed, 0.1 + seed)
        looks_in(place, ("roi.png", digest))
        os.utime(place / "metrics.json", (seed, seed))
    assert rows(tmp_path)["Tile"].tolist() == pytest.approx([1.1])
    assert "look elsewhere in them" in notes(tmp_path)
