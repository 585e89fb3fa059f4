import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vaebm.evaluation import (
    Judge,
    extract,
    fraction_closed,
    frechet_to_reference,
    make_reference,
    measure_against,
    measure_floors,
    measure_samples,
)
from vaebm.metrics import feature_statistics, frechet_distance, prdc


class Pixels(nn.Module):
    num_features = 64

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy(images: Tensor, scale: float) -> Tensor:
    return images + scale * torch.randn(images.shape, generator=seeded(7))


def test_row_says_who_measured_what_from_how_many(judge: Judge, digits: SimpleNamespace) -> None:
    (row,) = measure_samples(noisy(digits.test[:300], 0.1), digits.test, digits.training, [judge], generator=seeded(5))
    assert (row.judge, row.judge_sha256) == ("tiny", "ab" * 32)
    assert (row.num_samples, row.num_reference, row.seed) == (300, 597, 5)
    assert (row.kernel.num_subsets, row.kernel.subset_size) == (50, 150)
    assert row.prdc.num_neighbours == 5


def test_worse_samples_are_further_away_in_every_figure(judge: Judge, digits: SimpleNamespace) -> None:
    reference = make_reference(judge, digits.test, digits.training, num_samples=500, generator=seeded())
    good, poor = (
        measure_against(noisy(digits.training[:500], scale), reference, generator=seeded(1)) for scale in (0.2, 1.0)
    )
    assert good.frechet_floor < good.frechet < poor.frechet / 2
    assert good.kernel_floor.mean < good.kernel.mean < poor.kernel.mean / 2
    assert good.prdc.precision > poor.prdc.precision
    assert good.prdc.density > poor.prdc.density
    assert good.prdc.coverage > poor.prdc.coverage
    assert good.classes is not None
    assert poor.classes is not None
    assert good.classes.mean_confidence > poor.classes.mean_confidence


def test_real_images_as_samples_reach_the_floor(judge: Judge, digits: SimpleNamespace) -> None:
    samples, training = digits.training[:600], digits.training[600:]
    (row,) = measure_samples(samples, digits.test, training, [judge], generator=seeded())
    assert abs(row.kernel.mean) < 4 * row.kernel.std
    assert abs(row.kernel_floor.mean) < 4 * row.kernel_floor.std
    assert row.prdc.coverage > 0.9
    assert row.classes is not None
    assert row.classes.mean_confidence == pytest.approx(row.classes.reference_mean_confidence, abs=0.05)


def test_floor_is_on_average_the_distance_of_perfect_samples(judge: Judge, digits: SimpleNamespace) -> None:
    everything = torch.cat([digits.training, digits.test])
    distances, floors = [], []
    for seed in range(8):
        samples, training, test = torch.tensor_split(everything[torch.randperm(1797, generator=seeded(seed))], 3)
        reference = make_reference(judge, test, training, num_samples=599, generator=seeded(seed))
        distances.append(frechet_to_reference(samples, reference))
        floors.append(frechet_to_reference(training, reference))
    assert sum(distances) == pytest.approx(sum(floors), rel=0.25)


def test_floor_is_the_distance_of_as_many_training_images(judge: Judge, digits: SimpleNamespace) -> None:
    everything = digits.training[:200]
    (row,) = measure_samples(digits.test[:200], digits.test, everything, [judge], generator=seeded())
    statistics = [feature_statistics(extract(judge, images).features) for images in (everything, digits.test)]
    assert row.frechet_floor == pytest.approx(frechet_distance(*statistics), rel=1e-5)


def test_reference_serves_smaller_sets_with_their_own_floor(judge: Judge, digits: SimpleNamespace) -> None:
    reference = make_reference(judge, digits.test, digits.training, num_samples=1000, generator=seeded())
    few, many = (measure_against(digits.training[:n], reference, generator=seeded()) for n in (100, 1000))
    assert few.frechet_floor > 1.5 * many.frechet_floor
    assert frechet_to_reference(digits.training[:100], reference) == pytest.approx(few.frechet, rel=1e-6)


def test_precision_is_of_the_samples_and_recall_of_the_test_images(judge: Judge, digits: SimpleNamespace) -> None:
    samples = noisy(digits.test[digits.test_labels < 5], 0.3)
    (row,) = measure_samples(samples, digits.test, digits.training, [judge], generator=seeded())
    assert row.prdc == prdc(extract(judge, digits.test).features, extract(judge, samples).features)
    assert row.prdc.precision > 0.7 > row.prdc.recall


def test_lost_class_shows_in_the_shares(judge: Judge, digits: SimpleNamespace) -> None:
    kept = digits.training[digits.training_labels != 3]
    (row,) = measure_samples(kept[:600], digits.test, digits.training, [judge], generator=seeded())
    assert row.classes is not None
    assert sum(row.classes.shares) == pytest.approx(1)
    assert row.classes.shares[3] < 0.02
    assert row.classes.reference_shares[3] > 0.05


def test_the_floor_has_the_classes_of_as_many_training_images(judge: Judge, digits: SimpleNamespace) -> None:
    reference = make_reference(judge, digits.test, digits.training, num_samples=50, generator=seeded())
    floors = measure_floors(reference, 20, generator=seeded())
    assert floors.classes is not None
    drawn = digits.training[torch.randperm(len(digits.training), generator=seeded())[:20]]
    probabilities = extract(judge, drawn).probabilities
    assert probabilities is not None
    expected = probabilities.argmax(1).bincount(minlength=10).double() / 20
    assert torch.equal(torch.tensor(floors.classes.shares, dtype=torch.float64), expected)
    assert floors.classes.mean_confidence == pytest.approx(float(probabilities.max(1).values.mean()))


def test_every_judge_has_its_row_and_headless_ones_no_classes(judge: Judge, digits: SimpleNamespace) -> None:
    pixels = Judge("pixels", "cd" * 32, Pixels().eval())
    rows = measure_samples(digits.training[:100], digits.test, digits.training, [judge, pixels], generator=seeded())
    assert [row.judge for row in rows] == ["tiny", "pixels"]
    assert rows[0].classes is not None
    assert rows[1].classes is None
    assert rows[1].frechet > 0


def test_same_seed_gives_the_same_row(judge: Judge, digits: SimpleNamespace) -> None:
    samples = noisy(digits.test[:100], 0.3)
    first, second, other = (
        measure_samples(samples, digits.test, digits.training, [judge], generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert first == second
    assert first[0].frechet == other[0].frechet
    assert first[0].frechet_floor != other[0].frechet_floor


def test_row_survives_json(judge: Judge, digits: SimpleNamespace) -> None:
    (row,) = measure_samples(digits.test[:50], digits.test, digits.training, [judge], generator=seeded())
    stored = json.loads(json.dumps(asdict(row), allow_nan=False))
    assert stored["frechet"] == row.frechet
    assert stored["prdc"]["coverage"] == row.prdc.coverage
    assert len(stored["classes"]["shares"]) == 10


def test_floor_of_fewer_images_is_refused(judge: Judge, digits: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="as many training images, found 40"):
        measure_samples(digits.test[:50], digits.test, digits.training[:40], [judge], generator=seeded())
    reference = make_reference(judge, digits.test, digits.training, num_samples=40, generator=seeded())
    with pytest.raises(ValueError, match="larger num_samples"):
        measure_against(digits.test[:50], reference, generator=seeded())


def test_fraction_closed() -> None:
    assert fraction_closed(427.0, 3.0, 3.0) == 1
    assert fraction_closed(427.0, 427.0, 3.0) == 0
    assert fraction_closed(100.0, 150.0, 0.0) == -0.5
    for vae in (3.0, float("nan")):
        with pytest.raises(ValueError, match="nothing to close"):
            fraction_closed(vae, 3.0, 3.0)
