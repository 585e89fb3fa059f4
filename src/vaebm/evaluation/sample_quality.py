"""How close samples are to real images, in the eyes of a judge, and how close real images come themselves.

Beside each distance of n samples from the test images stands its floor: the distance of n training images from the same
test images. What an energy network adds to its VAE is the fraction of the way to the floor,

    fraction closed = (d_vae − d_vaebm) / (d_vae − d_floor).

Real images are judged once (`make_reference`) and then serve any number of sample sets.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500.
    Demystifying MMD GANs, arXiv 1801.01401.
    Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.evaluation.features import Judge, JudgedImages, extract
from vaebm.metrics import (
    FeatureStatistics,
    Interval,
    KernelDistance,
    Prdc,
    class_shares,
    feature_statistics,
    frechet_distance,
    kernel_distance,
    kernel_interval,
    prdc,
)

__all__ = [
    "FEWEST_FOR_INTERVAL",
    "ClassQuality",
    "Floors",
    "Reference",
    "SampleQuality",
    "fraction_closed",
    "frechet_to_reference",
    "kernel_to_reference",
    "make_reference",
    "measure_against",
    "measure_floors",
    "measure_samples",
]

_NUM_SUBSETS = 50
_SUBSET_SIZE = 1000
_NUM_NEIGHBOURS = 5
FEWEST_FOR_INTERVAL = 40


@dataclass(frozen=True, eq=False)
class Reference:
    """What one judge sees in the real images; made once, used for many sets of samples.

    Arguments:
        judge: The judge.
        test: What it sees in the test images, M.
        test_statistics: The Gaussian fitted to the features of the test images.
        training: What it sees in a random draw of training images, in random order, for the floors.
    """

    judge: Judge
    test: JudgedImages
    test_statistics: FeatureStatistics
    training: JudgedImages


@dataclass(frozen=True)
class ClassQuality:
    """What the judge's head says of the samples.

    Arguments:
        shares: Share of each class among the samples, by the judge's most probable class.
        reference_shares: The same among the test images.
        mean_confidence: Mean probability of the most probable class.
        reference_mean_confidence: The same of the test images.
    """

    shares: tuple[float, ...]
    reference_shares: tuple[float, ...]
    mean_confidence: float
    reference_mean_confidence: float


@dataclass(frozen=True)
class SampleQuality:
    """The figures of one set of samples under one judge, with what is needed to repeat them.

    Arguments:
        judge: The judge's name.
        judge_sha256: The hash of the judge's weights.
        num_samples: n, the number of samples, and of training images behind the floors.
        num_reference: The number of test images.
        seed: The seed that the generator was made with; it draws the training images and the kernel's subsets.
        frechet: Fréchet distance of the samples from the test images.
        frechet_floor: The same of n training images.
        kernel: Kernel distance of the samples from the test images, over 50 subsets of 1,000 (of half a smaller set).
        kernel_floor: The same of n training images.
        kernel_interval: Kernel distance of all samples from all test images with its 95 % interval, or None if there
            are fewer than 40 of either.
        kernel_floor_interval: The same of n training images.
        prdc: Precision, recall, density and coverage of the samples.
        classes: Class shares and confidence, or None if the judge has no head.
    """

    judge: str
    judge_sha256: str
    num_samples: int
    num_reference: int
    seed: int
    frechet: float
    frechet_floor: float
    kernel: KernelDistance
    kernel_floor: KernelDistance
    kernel_interval: Interval | None
    kernel_floor_interval: Interval | None
    prdc: Prdc
    classes: ClassQuality | None


def fraction_closed(vae: float, vaebm: float, floor: float) -> float:
    """Computes the fraction of the way from the VAE to the floor, (d_vae − d_vaebm) / (d_vae − d_floor).

    Arguments:
        vae: Distance of the VAE's samples.
        vaebm: Distance of the VAEBM's samples, from as many images and the same judge.
        floor: Distance of as many training images.

    Returns:
        1 at the floor, 0 if nothing was gained, negative if the VAEBM is worse than its VAE.

    Raises:
        ValueError: If the VAE is not above the floor, so that there is no way to go.

    Example:
        >>> fraction_closed(vae=403.0, vaebm=23.0, floor=3.0)
        0.95
    """
    if not vae > floor:
        raise ValueError(f"the VAE's distance {vae:.4g} is not above the floor {floor:.4g}: there is nothing to close")
    return (vae - vaebm) / (vae - floor)


def make_reference(
    judge: Judge, test: Tensor, training: Tensor, *, num_samples: int, generator: torch.Generator, batch_size: int = 500
) -> Reference:
    """Judges the real images: all test images, and as many training images as there will be samples.

    Arguments:
        judge: The judge.
        test: Test images, float in [-1, 1], (M, C, H, W).
        training: Training images, float in [-1, 1], (T, C, H, W), T at least `num_samples`.
        num_samples: The largest number of samples that will be measured against the reference.
        generator: Draws the training images.
        batch_size: The number of images that the judge sees at a time.

    Returns:
        The reference.

    Raises:
        ValueError: If there are fewer training images than samples: a floor of fewer images would be too high.
    """
    if not 2 <= num_samples <= len(training):
        raise ValueError(
            f"the floor of {num_samples} samples needs as many training images, found {len(training)}: "
            f"measure between 2 and {len(training)} samples"
        )
    drawn = torch.randperm(len(training), generator=generator, device=generator.device)[:num_samples]
    judged = extract(judge, test, batch_size)
    return Reference(
        judge=judge,
        test=judged,
        test_statistics=feature_statistics(judged.features),
        training=extract(judge, training[drawn.to(training.device)], batch_size),
    )


def frechet_to_reference(samples: Tensor, reference: Reference, batch_size: int = 500) -> float:
    """Computes the Fréchet distance of samples from the test images alone: cheap enough to choose a model by.

    Arguments:
        samples: float, nominally in [-1, 1], (N, C, H, W).
        reference: The judged real images; made of the selection split where a choice is made.
        batch_size: The number of images that the judge sees at a time.

    Returns:
        The Fréchet distance.
    """
    judged = extract(reference.judge, samples, batch_size)
    return frechet_distance(feature_statistics(judged.features), reference.test_statistics)


def kernel_to_reference(samples: Tensor, reference: Reference, batch_size: int = 500) -> float:
    """Computes the kernel distance of all samples from all test images: what chooses a model where images are few.

    Of fewer images than features, a Fréchet distance rests on covariances that are not of full rank.

    Arguments:
        samples: float, nominally in [-1, 1], (N, C, H, W), N at least 40.
        reference: The judged real images, at least 40; made of the selection split where a choice is made.
        batch_size: The number of images that the judge sees at a time.

    Returns:
        The unbiased MMD².
    """
    judged = extract(reference.judge, samples, batch_size)
    groups = torch.Generator().manual_seed(0)
    return kernel_interval(judged.features, reference.test.features, generator=groups).value


@dataclass(frozen=True)
class Floors:
    """The distances of n training images from the test images, in the place of n samples.

    Arguments:
        num_samples: n.
        frechet: The Fréchet distance.
        kernel: The kernel distance.
        kernel_interval: The kernel distance of all of them with its 95 % interval, or None if they are too few.
        classes: Their class shares and confidence, or None if the judge has no head.
    """

    num_samples: int
    frechet: float
    kernel: KernelDistance
    kernel_interval: Interval | None
    classes: ClassQuality | None


def measure_floors(reference: Reference, num_samples: int, *, generator: torch.Generator) -> Floors:
    """Measures training images in the place of samples; once for many sets of samples of one size.

    Arguments:
        reference: The judged real images.
        num_samples: The number n of samples that the floors will stand beside.
        generator: Draws the subsets of the kernel distance.

    Returns:
        The floors.

    Raises:
        ValueError: If there are fewer training images in the reference.
    """
    if num_samples > len(reference.training):
        raise ValueError(
            f"{num_samples} samples exceed the {len(reference.training)} training images behind the floors: "
            "make the reference with a larger num_samples"
        )
    floor = reference.training.take(num_samples)
    return Floors(
        num_samples=num_samples,
        frechet=frechet_distance(feature_statistics(floor.features), reference.test_statistics),
        kernel=_kernel(floor, reference.test, generator),
        kernel_interval=_interval(floor, reference.test, generator),
        classes=_classes(floor, reference.test),
    )


def measure_against(
    samples: Tensor,
    reference: Reference,
    *,
    generator: torch.Generator,
    floors: Floors | None = None,
    batch_size: int = 500,
) -> SampleQuality:
    """Measures samples against real images that have been judged before.

    Arguments:
        samples: float, nominally in [-1, 1], (N, C, H, W); N is more than 5, and at most the reference's `num_samples`.
        reference: The judged real images.
        generator: Draws the subsets of the kernel distance.
        floors: What ``measure_floors`` returned for as many samples; measured here if not given.
        batch_size: The number of images that the judge sees at a time.

    Returns:
        All figures, with their floors.

    Raises:
        ValueError: If there are more samples than training images in the reference, or the floors are of another
            number of samples.
    """
    floors = floors or measure_floors(reference, len(samples), generator=generator)
    if floors.num_samples != len(samples):
        raise ValueError(f"floors of {floors.num_samples} images beside {len(samples)} samples: expected as many")
    judged = extract(reference.judge, samples, batch_size)
    return SampleQuality(
        judge=reference.judge.name,
        judge_sha256=reference.judge.sha256,
        num_samples=len(judged),
        num_reference=len(reference.test),
        seed=generator.initial_seed(),
        frechet=frechet_distance(feature_statistics(judged.features), reference.test_statistics),
        frechet_floor=floors.frechet,
        kernel=_kernel(judged, reference.test, generator),
        kernel_floor=floors.kernel,
        kernel_interval=_interval(judged, reference.test, generator),
        kernel_floor_interval=floors.kernel_interval,
        prdc=prdc(reference.test.features, judged.features, _NUM_NEIGHBOURS),
        classes=_classes(judged, reference.test),
    )


def measure_samples(
    samples: Tensor,
    reference_test: Tensor,
    reference_training: Tensor,
    judges: Sequence[Judge],
    *,
    generator: torch.Generator,
    batch_size: int = 500,
) -> list[SampleQuality]:
    """Measures one set of samples under each judge; for several sets, make the references once.

    Arguments:
        samples: float, nominally in [-1, 1], (N, C, H, W), N more than 5.
        reference_test: Test images, float in [-1, 1], (M, C, H, W).
        reference_training: Training images for the floors, float in [-1, 1], (T, C, H, W), T at least N.
        judges: The judges.
        generator: Draws the training images and the subsets of the kernel distance.
        batch_size: The number of images that a judge sees at a time.

    Returns:
        One row for each judge, in their order.

    Raises:
        ValueError: If there are fewer training images than samples.
    """
    rows = []
    for judge in judges:
        reference = make_reference(
            judge,
            reference_test,
            reference_training,
            num_samples=len(samples),
            generator=generator,
            batch_size=batch_size,
        )
        rows.append(measure_against(samples, reference, generator=generator, batch_size=batch_size))
    return rows


def _kernel(judged: JudgedImages, test: JudgedImages, generator: torch.Generator) -> KernelDistance:
    # Subsets of more than half a set are so alike that their spread would say nothing.
    size = min(_SUBSET_SIZE, len(judged) // 2, len(test) // 2)
    return kernel_distance(
        judged.features, test.features, num_subsets=_NUM_SUBSETS, subset_size=size, generator=generator
    )


def _interval(judged: JudgedImages, test: JudgedImages, generator: torch.Generator) -> Interval | None:
    if min(len(judged), len(test)) < FEWEST_FOR_INTERVAL:
        return None
    # Groups of their own stream: the subsets of other sets are drawn as they were before there were intervals.
    seed = generator.initial_seed()
    return kernel_interval(judged.features, test.features, generator=torch.Generator().manual_seed(seed))


def _classes(judged: JudgedImages, test: JudgedImages) -> ClassQuality | None:
    if judged.probabilities is None or test.probabilities is None:
        return None
    num_classes = test.probabilities.shape[1]
    confidence, labels = judged.probabilities.max(dim=1)
    reference_confidence, reference_labels = test.probabilities.max(dim=1)
    shares = class_shares(labels, num_classes)
    reference_shares = class_shares(reference_labels, num_classes)
    return ClassQuality(
        shares=tuple(shares.tolist()),
        reference_shares=tuple(reference_shares.tolist()),
        mean_confidence=float(confidence.mean()),
        reference_mean_confidence=float(reference_confidence.mean()),
    )
