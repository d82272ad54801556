"""Numbers and pictures survive the way into a page, as closely as it is promised."""

import gzip
import io
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.course.live import pack, quantise, webp
from fastflow_utils.errors import FastFlowError


def test_eight_bits_are_off_by_half_a_step_at_most():
    values = torch.randn(5, 7, 9, generator=torch.Generator().manual_seed(0)) * 10
    values[3] = 2.5  # a channel that is the same everywhere
    q, low, step = quantise(values)
    assert q.dtype == torch.uint8 and q.shape == values.shape
    back = low[:, None, None] + step[:, None, None] * q
    span = values.flatten(1).amax(1) - values.flatten(1).amin(1)
    assert ((back - values).abs().flatten(1).amax(1) <= span / 510 + 1e-5).all()
    assert (back[3] == 2.5).all()


def test_packed_numbers_come_back_and_the_same_ones_are_the_same_text():
    numbers = torch.arange(1000, dtype=torch.int32).reshape(10, 100).T
    text = pack(numbers)
    assert np.frombuffer(gzip.decompress(b64decode(text)), "<i4").tolist() == [
        *numbers.flatten().tolist()
    ]
    assert text == pack(numbers.clone())


@pytest.mark.parametrize(("lossless", "limit"), [(True, 0), (False, 12)])
def test_a_picture_is_kept_as_closely_as_asked_for(lossless, limit):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 128), axis=-1)
    picture = Image.fromarray(pixels.astype(np.uint8))
    kind, _, text = webp(picture, 90, lossless).partition(",")
    assert kind == "data:image/webp;base64"
    back = np.asarray(Image.open(io.BytesIO(b64decode(text)))).astype(int)
    assert np.abs(back - pixels).max() <= limit


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(wrong):
    values = torch.rand(2, 3, 4)
    values[1, 2, 3] = wrong
    with pytest.raises(FastFlowError, match="NaN or infinite"):
        quantise(values)
