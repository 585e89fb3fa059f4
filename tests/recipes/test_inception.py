"""Inception as a judge: errors here, and its figures where torch-fidelity and a working torchvision are at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebm.checkpoint import CheckpointError
from vaebm.data import to_float
from vaebm.evaluation import extract
from vaebm.recipes import ConfigError, load_inception


def inception() -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity can't be imported: {error}")
    return FeatureExtractorInceptionV3


def test_missing_weights_and_a_missing_extra_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights-inception-2015"):
        load_inception(tmp_path / "nothing.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    if importlib.util.find_spec("torch_fidelity") is None:
        with pytest.raises(ConfigError, match="need the extra 'fid'"):
            load_inception(tmp_path / "weights.pth")
    else:
        with pytest.raises((ConfigError, CheckpointError)):
            load_inception(tmp_path / "weights.pth")


def test_a_pickle_of_anything_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_inception(tmp_path / "weights.pth")


def test_features_and_classes_are_those_of_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = inception()
    # Random weights in the published layout: the real ones are a download.
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
    with monkeypatch.context() as patch:
        patch.setattr(network, "load_state_dict", lambda self, tensors: None)
        torch.manual_seed(0)
        torch.save(network("random", ["2048"]).state_dict(), tmp_path / "weights.pth")
    judge = load_inception(tmp_path / "weights.pth")
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    seen = extract(judge, to_float(pixels))
    features, logits = network("whole", ["2048", "logits_unbiased"], str(tmp_path / "weights.pth"))(pixels)
    torch.testing.assert_close(seen.features, features.double(), rtol=0, atol=0)
    torch.testing.assert_close(seen.probabilities, logits.double().softmax(1), rtol=0, atol=0)
