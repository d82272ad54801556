"""What several detectors say of the sample set's test images, as recorded once."""

from pathlib import Path

import pandas as pd

__all__ = ["FILE", "about", "measured"]

FILE = Path(__file__).with_name("cases.csv")


def measured() -> pd.DataFrame:
    """Return the image scores of five detectors on all test images of the sample set.

    ``tests/benchmarks/cases.py`` has recorded them, each method with its default recipe;
    :func:`about` says where. Higher is more anomalous; the scores of different columns have
    different units, so only their order within a column compares.

    Returns:
        A row for each test image: its ``category``, ``image`` (such as "bent/003"), ``label`` (0
        good, 1 anomalous), and the scores of a Gaussian for each pixel (``pixels``, notebook 01),
        of ``gaussian``, ``padim``, ``patchcore`` and ``fastflow``, all of seed 0, and of the flow
        with seeds 1 and 2 (``fastflow_1``, ``fastflow_2``).

    Example:
        >>> measured().groupby("category").label.agg(["size", "sum"]).loc["screw"].tolist()
        [44, 24]
    """
    return pd.read_csv(FILE, comment="#")


def about() -> dict[str, str]:
    """Return where and with what the scores were recorded.

    Example:
        >>> about()["command"]
        'python tests/benchmarks/cases.py'
    """
    with FILE.open(encoding="utf-8") as lines:
        told = [line[2:].rstrip("\n").split(": ", 1) for line in lines if line.startswith("# ")]
    return dict(told)
