"""The page to look at before anybody trusts a detector: which good pictures may not be good.

:func:`~fastflow_utils.data.pictures.survey` says which pictures are not like the others to a
person; the scores of models that had not seen them say which are not like the others to a model.
:func:`write_survey` shows both on a page without scripts, which any browser opens offline.
"""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from fastflow_utils.data.images import read_pixels
from fastflow_utils.errors import FastFlowError

__all__ = ["PAGE", "TABLE", "strict_limit", "suspects", "write_survey"]

PAGE, TABLE = "survey.html", "survey.csv"
"""The files that :func:`write_survey` writes."""

FEWEST = 10  # scores that a limit can be set by
STEPS = 5  # robust standard deviations above the median
SIDE = 160  # of a thumbnail, pixels
MOST = 60  # cards of pictures without a remark


def strict_limit(scores: npt.ArrayLike) -> float:
    r"""Return the score from which on a picture among good ones is probably anomalous.

    .. math:: \mathrm{median} + 5 \cdot 1.4826 \cdot \mathrm{MAD}

    MAD is the median distance from the median; times 1.4826 it is the standard deviation of a
    normal distribution. Both are robust: up to half of the pictures may be anomalous before they
    move without bounds, where mean and standard deviation follow the first one. (Not the model's
    own threshold: that one calls a tenth of all good pictures anomalous.)

    Args:
        scores: (n,), higher is more anomalous, each by a model that had not seen the picture; NaN
            for a picture without one.

    Returns:
        The limit; infinite for fewer than ten scores, or where half of them are the same.

    Example:
        >>> round(strict_limit(np.arange(21)), 1)
        47.1
    """
    values = np.asarray(scores, float)
    values = values[~np.isnan(values)]
    if len(values) < FEWEST:
        return np.inf
    median = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - median))
    return float(median + STEPS * spread) if spread > 0 else np.inf


def suspects(scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which of the pictures, (n,) bool, are at or above :func:`strict_limit`.

    Example:
        >>> suspects([*range(20), 99]).nonzero()[0].tolist()
        [20]
    """
    return np.asarray(scores, float) >= strict_limit(scores)  # no NaN is


def write_survey(
    table: pd.DataFrame,
    files: Sequence[Path | str],
    output: Path | str,
    scores: npt.ArrayLike | None = None,
    threshold: float | None = None,
    *,
    white: int | None = None,
) -> Path:
    """Write a page of the pictures to look at, and the table of all.

    The page holds its pictures itself and needs no other file. It shows every picture that has a
    remark or is probably anomalous, then up to 60 others, each group by its score.

    Args:
        table: From :func:`~fastflow_utils.data.pictures.survey`.
        files: Of its rows.
        output: A folder, made if it is missing; ``survey.html`` and ``survey.csv`` go there.
        scores: As for :func:`strict_limit`, of the rows. Default: nothing is known.
        threshold: From which score on a picture is probably anomalous. Default:
            :func:`strict_limit` of the scores.
        white: As for :func:`~fastflow_utils.data.pictures.survey`.

    Returns:
        The page.

    Raises:
        FastFlowError: There is not one file, or not one score, for each row.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.pictures import survey
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = [Path(folder, f"{name}.png") for name in "ab"]
        ...     for file in files:
        ...         Image.new("RGB", (64, 48), "red").save(file)
        ...     page = write_survey(survey(files), files, Path(folder, "survey"))
        ...     page.name, page.read_text().count("data:image/jpeg")
        ('survey.html', 2)
    """
    given = np.full(len(table), np.nan) if scores is None else np.asarray(scores, float)
    if not len(files) == len(given) == len(table):
        raise FastFlowError(
            f"{len(files)} files and {len(given)} scores for {len(table)} rows: expected one each"
        )
    limit = strict_limit(given) if threshold is None else threshold
    rows = table.assign(score=given, probably_anomalous=given >= limit, path=list(map(str, files)))
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    kept = rows.drop(columns="path")
    if scores is None:
        kept = table
    kept.to_csv(output / TABLE, errors="backslashreplace")

    rows = rows.sort_values("score", ascending=False, kind="stable", na_position="last")
    marked = (rows["remark"] != "") | rows["probably_anomalous"]
    first, others = rows[marked], rows[~marked]
    shown = pd.concat([first, others[:MOST]])
    cards = "\n".join(_card(str(name), row, white) for name, row in shown.iterrows())
    facts = [
        f"{len(rows)} pictures",
        f"{int((rows['remark'] != '').sum())} with a remark",
        f"{int(rows['probably_anomalous'].sum())} probably anomalous",
        f"{len(rows) - len(shown)} pictures without a remark are not shown here",
    ]
    page = output / PAGE
    said = f"{', '.join(facts)}. {_explained(given, limit)} All pictures are in {TABLE}."
    page.write_text(
        f"{HEAD}<p>{said}</p>\n<main>\n{cards}\n</main>\n</html>\n",
        encoding="utf-8",
        errors="backslashreplace",
    )
    return page


def _explained(scores: npt.NDArray[np.float64], limit: float) -> str:
    if np.isnan(scores).all():
        return "No model has scored them."
    if np.isinf(limit):
        return "There are too few different scores to say which are probably anomalous."
    return (
        "Scores are of models that had not seen the picture, in standard deviations of normal "
        f"pictures; probably anomalous is a score from {limit:.2f} on, far above the others. "
        "Look at these before you trust the model: an anomaly among the good pictures is learnt "
        "as normal."
    )


def _card(name: str, row: "pd.Series[Any]", white: int | None) -> str:
    """Return one picture's part of the page."""
    lines = [f"<b>{html.escape(name)}</b>"]
    picture = ""
    if not pd.isna(row["width"]):
        width, height = int(row["width"]), int(row["height"])
        lines.append(f"{width} x {height} px")
        picture = _thumbnail(row["path"], height, width, white)
    if not np.isnan(row["score"]):
        lines.append(f"score {row['score']:.2f}")
    if row["probably_anomalous"]:
        lines.append("<strong>probably anomalous</strong>")
    if row["remark"]:
        remark = f"{row['remark']} of {row['twin']}" if row["twin"] else str(row["remark"])
        lines.append(f"<em>{html.escape(remark)}</em>")
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _thumbnail(file: str, height: int, width: int, white: int | None) -> str:
    """Return a small copy that is part of the page; none of a file that has gone since."""
    shrunk = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * shrunk)), max(1, round(width * shrunk))
    try:
        pixels = read_pixels(file, size, white)
    except FastFlowError:
        return ""
    colours = np.broadcast_to(pixels.clip(0, 1) * 255, (*size, 3)).round().astype(np.uint8)
    written = BytesIO()
    Image.fromarray(colours).save(written, "JPEG", quality=80)
    code = base64.b64encode(written.getvalue()).decode()
    return f'<img alt="" width="{size[1]}" height="{size[0]}" src="data:image/jpeg;base64,{code}">'


HEAD = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>FastFlow: a survey of pictures</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1e22; --card: #f1f2f4; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #181a1f; --ink: #f0f0f0; --card: #262a31; }
}
body { font: 15px/1.4 sans-serif; margin: 2em; background: var(--ground); color: var(--ink); }
p { max-width: 50em; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1em; }
figure { margin: 0; padding: 10px; border-radius: 6px; background: var(--card); }
figcaption { overflow-wrap: anywhere; font-size: 13px; }
img { display: block; margin-bottom: 6px; }
strong { background: #de8f05; color: #000; padding: 0 4px; border-radius: 3px; }
em { font-style: normal; border: 1px solid; padding: 0 4px; border-radius: 3px; }
</style>
<h1>Which of these pictures are not like the others?</h1>
"""
