"""Our PaDiM and PatchCore beside anomalib's (2.7), on the same random features.

    python tests/benchmarks/peer_baselines.py --peer build/peer/bin/python

anomalib has a virtual environment of its own (tests/benchmarks/peer.py says how to make it), so
this script starts itself there: ours writes features and results to a file, the peer reads the
features, computes the same, and prints the largest relative difference of each result. The choice
of channels, the bank and the coreset's first pick are given to it: these are random.

anomalib adds 0.01001 to the variances where the paper and we add 0.01, and inverts in float32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

LARGEST = {"padim": 1e-2, "coreset": 0, "distance": 1e-3, "score": 1e-3}  # of a difference


def ours() -> dict[str, Tensor]:
    """Return features and what our methods make of them."""
    from fastflow_utils.detector.backbones import Backbone
    from fastflow_utils.detector.baselines.padim import PaDiM
    from fastflow_utils.detector.baselines.patchcore import PatchCore, coreset
    from fastflow_utils.detector.features import Features

    torch.manual_seed(0)
    backbone = Backbone(image_size=128)
    shapes = list(zip(backbone.channels, backbone.sizes, strict=True))
    train, test = (
        Features([scale * torch.randn(20, c, side, side) for c, side in shapes])
        for scale in (1, 1.5)
    )
    padim, patchcore = PaDiM(backbone), PatchCore(backbone)
    padim.learn(train)
    patchcore.learn(train)
    patches = patchcore.patches(test[:])
    rows = patchcore.patches(train[:])[0]
    return {
        "train": padim.vectors(train[:]),
        "test": padim.vectors(test[:]),
        "padim": padim.maps(test[:])[0].flatten(1),
        "bank": patchcore.bank,
        "patches": patches,
        "distance": patchcore.nearest(patches)[0],
        "score": patchcore.judge(test[:])[1],
        "rows": rows,
        "coreset": coreset(rows, 50, 7),
    }


def theirs(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what anomalib makes of the same features."""
    from anomalib.models.components import KCenterGreedy, MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    train, test = (  # (positions, images, channels) -> (images, channels, positions, 1)
        given[name].permute(1, 2, 0)[..., None].contiguous() for name in ("train", "test")
    )
    distance = AnomalyMapGenerator.compute_distance(test, MultiVariateGaussian().fit(train))

    model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    model.memory_bank = given["bank"]
    flat = given["patches"].flatten(0, 1)
    nearest, places = (
        each.view(given["distance"].shape) for each in model.nearest_neighbors(flat, n_neighbors=1)
    )
    # A third dimension keeps the sampler from projecting; its first pick is made ours.
    sampler = KCenterGreedy(given["rows"][:, None], sampling_ratio=50 / len(given["rows"]))
    randint, torch.randint = torch.randint, lambda *_, **__: torch.tensor([7])
    picks = sampler.select_coreset_idxs()
    torch.randint = randint
    return {
        "padim": distance.flatten(1),
        "distance": nearest,
        "score": model.compute_anomaly_score(nearest, places, flat),
        "coreset": torch.tensor(picks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="the Python that has anomalib")
    parser.add_argument("--given", type=Path, help="as the peer: our file")
    options = parser.parse_args()
    if options.given is None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ours.safetensors"
            made = {name: value.contiguous() for name, value in ours().items()}
            safetensors.torch.save_file(made, file)
            done = subprocess.run([options.peer, __file__, "--given", file])
        sys.exit(done.returncode)
    given = safetensors.torch.load_file(options.given)
    differences = {}
    for name, value in theirs(given).items():
        size = given[name].abs().double().clamp_min(1e-12)
        differences[name] = float(((value.double() - given[name].double()).abs() / size).max())
    print(json.dumps({name: float(f"{value:.2g}") for name, value in differences.items()}))
    sys.exit(any(value > LARGEST[name] for name, value in differences.items()))


if __name__ == "__main__":
    main()
