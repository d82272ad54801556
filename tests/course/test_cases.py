"""The recorded scores belong to the sample set and to the methods that the package has."""

import numpy as np
import torch

from fastflow_utils.course.cases import about, measured
from fastflow_utils.data.sample_set import CATEGORIES, defects
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.metrics import auroc

TABLE = measured()
DETECTORS = list(TABLE.columns[3:])


def test_all_categories_and_defects_of_the_sample_set_are_there_once():
    assert sorted(set(TABLE.category)) == sorted(CATEGORIES)
    assert not TABLE.duplicated(["category", "image"]).any()
    for category, rows in TABLE.groupby("category"):
        folders = rows.image.str.split("/").str[0]
        assert set(folders) == {"good", *defects(str(category))}
        assert ((folders != "good") == rows.label).all()


def test_every_detector_has_scored_every_image():
    assert np.isfinite(TABLE[DETECTORS]).all(axis=None)
    assert {name.partition("_")[0] for name in DETECTORS} - {"pixels"} <= set(METHODS)
    labels = torch.tensor(TABLE.label.to_numpy())
    for name in DETECTORS:  # higher is more anomalous
        assert auroc(torch.tensor(TABLE[name].rank().to_numpy()), labels) > 0.5, name


def test_it_says_where_it_was_recorded():
    assert {"device", "convolutions", "torch", "command"} <= set(about())
