"""The peer, measured: anomalib's FastFlow (2.7) with ResNet18 on one category, epoch by epoch.

    python -m venv build/peer
    build/peer/bin/python -m pip install "anomalib[core]==2.7.*" FrEIA scikit-learn
    build/peer/bin/python tests/benchmarks/peer.py --category MVTEC/bottle --weights resnet18.pth

anomalib's own model and loss with its own defaults (Adam, learning rate 1e-3, weight decay 1e-5,
batch 32, 3x3 and 1x1 kernels in turn, the backbone computed anew in each epoch, the image score is
the map's maximum), in a plain loop without its trainer, which flatters its speed a little. Its
metrics are scikit-learn's.

``--on-demand`` waits for a line on standard input before each answer, so that another side can be
measured in turn. ``--inference`` measures that instead of training: one JSON line with the median
milliseconds of a batch of 16 from tensor to map, of its backbone, of its flow (its LayerNorms
among it), and of a single image.

Otherwise prints one JSON line an epoch: epoch, train_s (training only, so far), infer_ms (an
image, batch 16), image_auroc, pixel_auroc and pixel_f1 (oracle; every second row and column of the
256 px map).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_auc_score

SIZE = 256
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def image(path: Path) -> torch.Tensor:
    picture = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 - MEAN) / STD


def mask(category: Path, path: Path) -> np.ndarray:
    file = category / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if not file.exists():
        return np.zeros((SIZE, SIZE), bool)
    picture = Image.open(file).convert("L").resize((SIZE, SIZE), Image.Resampling.NEAREST)
    return np.array(picture) > 127


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to; on a CPU nothing is pending."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def milliseconds(function: Callable[[], object], repeats: int = 5) -> float:
    """As in speed.py, which cannot be imported here: the peer has an environment of its own."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    function()
    durations = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


@torch.no_grad()
def inference(model: FastflowModel, batch: torch.Tensor) -> dict[str, float]:
    features = model.feature_extractor(batch)

    def flow() -> None:
        for block, norm, h in zip(model.fast_flow_blocks, model.norms, features, strict=True):
            block(norm(h))

    return {
        "batch of 16": milliseconds(lambda: model(batch)),
        "backbone": milliseconds(lambda: model.feature_extractor(batch)),
        "flow": milliseconds(flow),
        "single": milliseconds(lambda: model(batch[:1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--category", type=Path, required=True, help="a folder in MVTec layout")
    parser.add_argument("--weights", type=Path, required=True, help="of timm's ResNet18")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on-demand", action="store_true", help="a line asks for each answer")
    parser.add_argument("--inference", action="store_true", help="measure that, not training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    model = FastflowModel((SIZE, SIZE), "resnet18", pre_trained=False, hidden_ratio=1.0)
    model.feature_extractor.load_state_dict(torch.load(arguments.weights, weights_only=True))
    device = torch.device(arguments.device)
    model.to(device)
    if arguments.inference:
        files = sorted((arguments.category / "test").glob("*/*.png"))[:16]
        batch = torch.stack([image(file) for file in files]).to(device)
        model.eval()
        while not arguments.on_demand or sys.stdin.readline():
            print(json.dumps(inference(model, batch)), flush=True)
            if not arguments.on_demand:
                break
        return
    good = sorted((arguments.category / "train" / "good").glob("*.png"))
    files = sorted((arguments.category / "test").glob("*/*.png"))
    train = torch.stack([image(file) for file in good]).to(device)
    test = torch.stack([image(file) for file in files]).to(device)
    labels = np.array([file.parent.name != "good" for file in files])
    truth = np.stack([mask(arguments.category, file) for file in files])[:, ::2, ::2].ravel()
    loss_of = FastflowLoss()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-5)
    seconds = 0.0
    for epoch in range(1, arguments.epochs + 1):
        if arguments.on_demand and not sys.stdin.readline():
            return
        model.train()
        start = time.perf_counter()
        for index in torch.randperm(len(train)).split(32):
            loss = loss_of(*model(train[index]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait(device)
        seconds += time.perf_counter() - start
        model.eval()
        start = time.perf_counter()
        with torch.no_grad():
            batches = [model(batch).anomaly_map for batch in test.split(16)]
            maps = torch.cat(batches)[:, 0].cpu().numpy()
        infer = (time.perf_counter() - start) / len(test) * 1e3
        pixels = maps[:, ::2, ::2].ravel()
        precision, recall, _ = precision_recall_curve(truth, pixels)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        row = {
            "epoch": epoch,
            "train_s": round(seconds, 1),
            "infer_ms": round(infer, 1),
            "image_auroc": round(float(roc_auc_score(labels, maps.max((1, 2)))), 4),
            "pixel_auroc": round(float(roc_auc_score(truth, pixels)), 4),
            "pixel_f1": round(float(f1.max()), 4),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
