"""Regions say what the map says: how large, how high, where; in the picture's pixels."""

import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes, label
from skimage.draw import polygon2mask

from fastflow_utils.detector.regions import Record, find_regions, write_coco


def blobs(seed: int, height: int = 40, width: int = 48) -> torch.Tensor:
    """A map (1, h, w) with regions of any shape, some with holes, some at the border."""
    noise = torch.rand(
        1, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(seed)
    )
    return F.interpolate(noise, (height, width), mode="bilinear")[0]


def test_a_discs_region_is_where_the_disc_is_and_as_large():
    rows, columns = np.mgrid[:64, :96]
    disc = (rows - 20.5) ** 2 + (columns - 60.5) ** 2 < 10**2
    anomaly_map = torch.from_numpy(np.where(disc, 0.9, 0.1).astype(np.float32))[None]
    [region] = find_regions(anomaly_map, 0.5, width=960, height=320)
    across, down = 10, 5
    assert region.area == pytest.approx(np.pi * 10**2 * across * down, rel=0.02)
    assert (region.centroid_x, region.centroid_y) == (61 * across, 21 * down)
    assert region.mean == region.score == pytest.approx(0.9)
    assert (region.width, region.height) == (20 * across, 20 * down)
    x, y = np.reshape(region.polygon, (-1, 2)).T / [[across], [down]] - [[61], [21]]
    assert abs(np.hypot(x, y) - 10).max() < 0.8, "every point of the outline is on the circle"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(48, 40), (480, 200), (31, 77)])
def test_regions_add_up_to_the_map(seed, size):
    anomaly_map, (width, height) = blobs(seed), size
    mask = (anomaly_map >= 0.6)[0].numpy()
    found = find_regions(anomaly_map, 0.6, width, height)
    share = sum(region.area for region in found) / (width * height)
    assert len(found) == label(mask, np.ones((3, 3)))[1] > 1
    assert share == pytest.approx(mask.mean(), rel=1e-4)
    assert found[0].score == float(anomaly_map.max())
    total = sum(region.area * region.mean for region in found) / (width * height)
    assert total == pytest.approx((anomaly_map[0].double().numpy() * mask).mean(), rel=1e-4)
    assert [region.score for region in found] == sorted((r.score for r in found), reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_the_regions_with_their_holes_filled(seed):
    anomaly_map = blobs(seed)
    mask = (anomaly_map >= 0.4)[0].numpy()
    drawn = np.zeros(mask.shape, bool)
    for region in find_regions(anomaly_map, 0.4, mask.shape[1], mask.shape[0]):
        x, y = np.reshape(region.polygon, (-1, 2)).T
        drawn |= polygon2mask(mask.shape, np.stack([y, x], 1) - 0.5)  # its pixels' middles
    labels, count = label(mask, np.ones((3, 3)))
    filled = [binary_fill_holes(labels == number) for number in range(1, count + 1)]
    np.testing.assert_array_equal(drawn, np.any(filled, axis=0))


@pytest.mark.parametrize("pixels", [[(3, 4)], [(3, 4), (4, 5)], [(0, 0)], [(7, 9)]])
def test_a_pixel_is_a_region_and_two_that_touch_at_a_corner_are_one(pixels):
    anomaly_map = torch.zeros(1, 8, 10)
    for row, column in pixels:
        anomaly_map[0, row, column] = 1
    [region] = find_regions(anomaly_map, 0.5, width=20, height=24)
    assert region.area == len(pixels) * 2 * 3
    assert (region.x, region.y) == (pixels[0][1] * 2, pixels[0][0] * 3)
    assert len(region.polygon) >= 6


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_map_without_an_edge_has_no_region_or_one(value):
    found = find_regions(torch.full((1, 8, 10), value), 0.5, width=20, height=24)
    assert [region.area for region in found] == [20 * 24] * int(value)


def test_coco_boxes_hold_their_polygons_and_belong_to_their_pictures():
    records = [
        Record(f"{seed}.png", "", 1.0, 77, 310, find_regions(blobs(seed), threshold, 77, 310))
        for seed, threshold in enumerate([0.6, 2.0, 0.4])
    ]
    file = io.StringIO()
    write_coco(file, lambda: records)
    coco = json.loads(file.getvalue())
    assert [image["file_name"] for image in coco["images"]] == ["0.png", "1.png", "2.png"]
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    ids = [one["id"] for one in coco["annotations"]]
    assert len(set(ids)) == len(ids) == sum(len(record.regions) for record in records) > 0
    for record in records:
        own = [one for one in coco["annotations"] if names[one["image_id"]] == record.path]
        assert [one["area"] for one in own] == [region.area for region in record.regions]
    for one in coco["annotations"]:
        assert one["category_id"] == coco["categories"][0]["id"]
        left, top, width, height = one["bbox"]
        [polygon] = one["segmentation"]
        points = np.reshape(polygon, (-1, 2))
        near = 2e-3  # both are rounded to thousandths
        assert (points >= np.array([left, top]) - near).all()
        assert (points <= np.array([left + width, top + height]) + near).all()
        assert left >= 0 and top >= 0 and left + width <= 77 + near and top + height <= 310 + near
        assert np.ptp(points, axis=0) == pytest.approx([width, height], abs=near), "and no more"


def test_coco_without_any_region_is_whole():
    write_coco(file := io.StringIO(), lambda: [])
    assert json.loads(file.getvalue())["annotations"] == []
