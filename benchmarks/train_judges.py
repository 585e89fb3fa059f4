"""Trains the digit classifiers that judge samples: two for MNIST and one for 8×8 digits bundled, one kept apart.

    python benchmarks/train_judges.py            # all, some 30 minutes on one CPU thread
    python benchmarks/train_judges.py digits_plain

They see the training split only and differ in architecture and seed. The bundled ones were committed before any
generator was tuned; the one kept apart takes part in no choice. The folders that this script writes are committed with
their hashes; accuracy on the test images goes to ``benchmarks/results/judges.json``.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vaebm.checkpoint import StoredModel, save_model_folder, tensors_sha256
from vaebm.data import load_splits, to_float
from vaebm.models.classifier import Classifier

ROOT = Path(__file__).parent
BUNDLED = ROOT.parent / "src" / "vaebm" / "checkpoint" / "bundled"
JUDGES: dict[str, tuple[Path, int, dict[str, Any]]] = {
    "digits8_plain": (
        BUNDLED / "judges",
        404,
        {"widths": [32, 64], "kernel_size": 3, "residual": False, "num_features": 64},
    ),
    "digits_plain": (
        BUNDLED / "judges",
        101,
        {"widths": [32, 64, 128], "kernel_size": 3, "residual": False, "num_features": 128},
    ),
    "digits_residual": (
        BUNDLED / "judges",
        202,
        {"widths": [48, 96], "kernel_size": 3, "residual": True, "num_features": 96},
    ),
    "digits_apart": (
        ROOT / "judges",
        303,
        {"widths": [24, 48, 64], "kernel_size": 5, "residual": False, "num_features": 160},
    ),
}
NUM_EPOCHS, BATCH_SIZE, LEARNING_RATE = 14, 128, 3e-3


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts by up to 9 % of the image, rotates by up to 12 degrees, scales by up to 12 %, shape (B, 1, H, W)."""
    count = len(images)
    uniform = torch.rand(count, 4, generator=generator) * 2 - 1
    angle, scale = uniform[:, 0] * math.radians(12), 1 + 0.12 * uniform[:, 1]
    shift = uniform[:, 2:] * (2.5 / 14)  # in half images, so that 8×8 digits move by up to 0.7 pixels
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images + 1, grid, align_corners=False) - 1


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Returns the share of correct decisions."""
    classifier.eval()
    with torch.no_grad():
        decisions = torch.cat([classifier(batch).argmax(1) for batch in torch.split(images, 500)])
    classifier.train()
    return float((decisions == labels).double().mean())


def optimize(classifier: Any, images: Tensor, labels: Tensor, generator: torch.Generator, num_epochs: int) -> None:
    """Trains a classifier on augmented images (N, C, H, W) and labels (N,)."""
    started = time.monotonic()
    num_iterations = num_epochs * len(images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, num_iterations, pct_start=0.2)
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(num_epochs)])
    for iteration in range(num_iterations):
        chosen = order[iteration * BATCH_SIZE : (iteration + 1) * BATCH_SIZE]
        batch = augment(images[chosen], generator).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(batch)
        loss = functional.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if iteration % 500 == 0:
            seconds = time.monotonic() - started
            print(f"{iteration}/{num_iterations} loss {loss.item():.3f} {seconds:.0f} s", flush=True)


def train(name: str) -> dict[str, Any]:
    """Trains one judge, writes its folder and returns its row of the results."""
    folder, seed, arguments = JUDGES[name]
    data = "digits" if name == "digits8_plain" else "mnist"
    splits = load_splits(data)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    num_epochs = NUM_EPOCHS * (10 if data == "digits" else 1)
    config = {"image_shape": list(splits.training.shape), "num_classes": 10, "dropout": 0.3, **arguments}
    classifier = Classifier(**config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = to_float(splits.training.images), torch.from_numpy(splits.training.labels)
    print(name, flush=True)
    optimize(classifier, images, labels, generator, num_epochs)
    selection = accuracy(classifier, to_float(splits.selection.images), torch.from_numpy(splits.selection.labels))
    test = accuracy(classifier, to_float(splits.test.images), torch.from_numpy(splits.test.labels))
    tensors = {key: value.contiguous() for key, value in classifier.state_dict().items()}
    card = (
        f"# {name}\n\nDigit classifier of `benchmarks/train_judges.py` (seed {seed}); test accuracy {test:.4f}. "
        "Feature extractor of the Fréchet figures.\n"
    )
    stored = StoredModel({"kind": "classifier", "classifier": config, "data": data}, tensors, None, card)
    save_model_folder(folder / name, stored)
    return {
        "name": name,
        "seed": seed,
        "config": config,
        "selection_accuracy": selection,
        "test_accuracy": test,
        "sha256": tensors_sha256(tensors),
    }


def main() -> None:
    """Trains the judges named on the command line, or all."""
    results = ROOT / "results" / "judges.json"
    for name in sys.argv[1:] or JUDGES:
        row = train(name)
        print(json.dumps(row))
        rows = json.loads(results.read_text()) if results.exists() else {}
        results.write_text(json.dumps({**rows, name: row}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
