"""Outlier scores that need no model of the images: what a VAEBM has to be better than. Higher = outlier.

| score | what it is |
|---|---|
| complexity | how far the size of the image as a PNG file, in bits, lies from the median size of normal images |
| pixel statistics | the Mahalanobis distance of mean and standard deviation of each channel, covariance shrunk |
| kNN, pixels | the distance to the k-th nearest normal image, pixel by pixel |
| kNN, features | the same on the features of a network that was trained on other pictures |
| Mahalanobis, features | the Mahalanobis distance to the mean of the normal images' features, covariance shrunk |

Complexity counts both ways: a blurred image is odd for being simpler, a scratched one for being more complex.

References:
    Input complexity and out-of-distribution detection with likelihood-based generative models, arXiv 1909.11480.
    Deep Nearest Neighbor Anomaly Detection, arXiv 2002.10445.
    Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection, arXiv 2005.14140.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data import to_float
from vaebm.evaluation.features import Judge, extract
from vaebm.metrics import Gaussian, fit_gaussian, mahalanobis_distances, neighbour_distances
from vaebm.plots import png_bytes

__all__ = ["Baselines", "baseline_scores", "fit_baselines", "png_bits"]


@dataclass(frozen=True, eq=False)
class Baselines:
    """What the baselines know of normal images.

    Arguments:
        bits: The median size of a normal image as a PNG file, in bits.
        pixels: The normal images, float in [-1, 1], (n, D).
        num_neighbours: k.
        moments: The Gaussian fitted to mean and standard deviation of each channel, or None if these don't vary.
        extractor: The network behind the features, or None.
        features: Features of the normal images, (n, F), float64, or None.
        gaussian: The Gaussian fitted to them, or None.
    """

    bits: float
    pixels: Tensor
    num_neighbours: int
    moments: Gaussian | None
    extractor: Judge | None = None
    features: Tensor | None = None
    gaussian: Gaussian | None = None


def png_bits(images: Tensor) -> Tensor:
    """Measures the complexity of images: their size as PNG files, in bits; of colour files for three channels.

    Arguments:
        images: uint8, (N, C, H, W), one or three channels.

    Returns:
        The sizes, (N,), float64.

    Example:
        >>> flat, noise = torch.zeros(1, 1, 16, 16), torch.randint(256, (1, 1, 16, 16))
        >>> sizes = png_bits(torch.cat([flat, noise]).to(torch.uint8))
        >>> bool(sizes[1] > 2 * sizes[0])
        True
    """
    pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    # One code for all images of a model: a file of grey ones would be smaller for its form alone.
    files = [png_bytes(picture[..., 0] if picture.shape[-1] == 1 else picture, True, 9) for picture in pictures]
    return torch.tensor([8 * len(file) for file in files], dtype=torch.float64)


def fit_baselines(reference: Tensor, extractor: Judge | None, num_neighbours: int = 5) -> Baselines:
    """Looks at normal images.

    Arguments:
        reference: Normal images, uint8, (n, C, H, W).
        extractor: The network behind the features; None leaves out the scores that need one.
        num_neighbours: k; at most n.

    Returns:
        What ``baseline_scores`` takes.

    Raises:
        ValueError: If there are fewer than two images, or all are the same.
    """
    if len(reference) < 2:
        raise ValueError(f"the baselines have {len(reference)} normal images, expected at least 2")
    bits, pixels = float(png_bits(reference).median()), to_float(reference).flatten(1)
    count, found = min(num_neighbours, len(reference)), _pixel_moments(to_float(reference))
    # Pixels in another order have sums that differ by rounding.
    moments = fit_gaussian(found) if float((found - found[:1]).abs().max()) > 1e-9 else None
    if extractor is None:
        return Baselines(bits, pixels, count, moments)
    features = extract(extractor, to_float(reference)).features
    return Baselines(bits, pixels, count, moments, extractor, features, fit_gaussian(features))


def _pixel_moments(images: Tensor) -> Tensor:
    """Returns mean and standard deviation of each channel of images (N, C, H, W): (N, 2 C), float64."""
    flat = images.double().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)


def baseline_scores(baselines: Baselines, images: Tensor) -> dict[str, Tensor]:
    """Scores images.

    Arguments:
        baselines: What ``fit_baselines`` returned.
        images: uint8, (N, C, H, W); none of them may be among the normal images that were looked at.

    Returns:
        Each score by name, (N,), float64, higher = outlier; an image's scores don't depend on the other images.
    """
    pixels = to_float(images)
    scores = {
        "complexity": (png_bits(images) - baselines.bits).abs(),
        **_statistics(baselines, pixels),
        "kNN, pixels": neighbour_distances(baselines.pixels, pixels.flatten(1), baselines.num_neighbours),
    }
    if baselines.extractor is None or baselines.features is None or baselines.gaussian is None:
        return scores
    features = extract(baselines.extractor, pixels).features
    return {
        **scores,
        "kNN, features": neighbour_distances(baselines.features, features, baselines.num_neighbours),
        "Mahalanobis, features": mahalanobis_distances(baselines.gaussian, features),
    }


def _statistics(baselines: Baselines, images: Tensor) -> dict[str, Tensor]:
    """Returns the pixel statistics of images (N, C, H, W) as a score; nothing if those of normal ones don't vary."""
    if baselines.moments is None:
        return {}
    return {"pixel statistics": mahalanobis_distances(baselines.moments, _pixel_moments(images))}
