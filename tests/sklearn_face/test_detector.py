"""The detector on real pictures: what it finds, what it promises, and that its scores stay what they are."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from short_fits import SHORT, SHORTEST, Digits, changed
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import vaebm
from vaebm.sklearn import VAEBMDetector


def area(normal: NDArray[np.float64], odd: NDArray[np.float64]) -> float:
    """The AUROC of scores that are high for normal pictures."""
    labels = np.r_[np.ones(len(normal)), np.zeros(len(odd))]
    return float(roc_auc_score(labels, np.r_[normal, odd]))


@pytest.mark.parametrize("seed", range(3))
def test_other_digits_are_found(digits: Digits, seed: int) -> None:
    is_normal = digits.labels < 5
    normal = digits.images[is_normal]
    detector = VAEBMDetector(value_range=(0, 16), random_state=seed, **SHORT).fit(normal[:600])
    # Twelve seeds gave 0.947 to 0.968, and 83 to 94 % of the other digits flagged.
    assert area(detector.score_samples(normal[600:]), detector.score_samples(digits.images[~is_normal])) > 0.9
    assert (detector.predict(digits.images[~is_normal]) == -1).mean() > 0.75


def test_new_normal_digits_are_flagged_at_the_stated_rate(digits: Digits) -> None:
    levels = np.array([0.01, 0.05, 0.1])
    rates, decided = [], []
    for seed in range(4):
        order = np.random.RandomState(seed).permutation(len(digits.images))
        known, new = digits.images[order[:900]], digits.images[order[900:]]
        detector = VAEBMDetector(value_range=(0, 16), contamination=0.1, random_state=seed, **SHORT).fit(known)
        p_values = detector.p_values(new)
        rates.append([(p_values <= level).mean() for level in levels])
        decided.append((detector.predict(new) == -1).mean())
    # 225 calibration and 897 new pictures: a rate scatters by √(α (1 − α) (1/225 + 1/897)), the mean of four by half.
    spread = np.sqrt(levels * (1 - levels) * (1 / 225 + 1 / 897)) / 2
    promised = np.floor(levels * 226) / 226
    assert np.all(np.abs(np.mean(rates, axis=0) - promised) < 3.5 * spread), rates
    np.testing.assert_array_equal(decided, np.array(rates)[:, 2])


@pytest.mark.parametrize("contamination", [0.05, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("num_pictures", [100, 263, 400])
def test_the_offset_gives_the_promised_rate(contamination: float, num_pictures: int) -> None:
    detector = VAEBMDetector(contamination=contamination)
    rank, count = detector._rank(num_pictures)
    draws = np.random.RandomState(0).rand(20_000, count + 1)
    offsets = np.partition(draws[:, :-1], rank - 1, axis=1)[:, rank - 1]
    rate = (draws[:, -1] < offsets).mean()
    assert rank / (count + 1) <= contamination < (rank + 1) / (count + 1)
    assert abs(rate - rank / (count + 1)) < 4 * np.sqrt(contamination / 20_000)


def test_decisions_are_those_of_the_p_values(digits: Digits, fitted: VAEBMDetector) -> None:
    new = digits.images[900:]
    p_values, decision = fitted.p_values(new), fitted.decision_function(new)
    scores = fitted.score_samples(new)
    np.testing.assert_array_equal(fitted.predict(new), np.where(p_values <= fitted.contamination, -1, 1))
    np.testing.assert_array_equal(decision, scores - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(new) == -1, decision < 0)
    expected = [(1 + np.sum(fitted.calibration_scores_ <= score)) / 226 for score in scores]
    np.testing.assert_allclose(p_values, expected, rtol=1e-12)
    assert fitted.calibration_scores_.shape == (225,)
    assert len(np.unique(fitted.predict(new))) == 2


def test_a_picture_on_the_offset_is_normal(digits: Digits, fitted: VAEBMDetector) -> None:
    copied = changed(fitted)
    copied.offset_ = float(copied.score_samples(digits.images[:1])[0])
    assert copied.predict(digits.images[:1]) == 1
    copied.offset_ = np.nextafter(copied.offset_, np.inf)
    assert copied.predict(digits.images[:1]) == -1


def test_scores_are_those_of_the_library(digits: Digits, fitted: VAEBMDetector) -> None:
    found = fitted.scores(digits.images[:50])
    bytes_of = torch.from_numpy(np.rint(digits.images[:50] * (255 / 16))).float()
    generator = torch.Generator().manual_seed(fitted.scoring_seed_)
    expected = vaebm.outlier_scores(
        fitted.model_,
        bytes_of[:, None] / 127.5 - 1,
        num_posterior_samples=fitted.num_posterior_samples,
        generator=generator,
    )
    # The networks run in float64 here, in float32 there.
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.joint, expected.joint, rtol=1e-4, atol=1e-4)
    # Each of the three is rounded to four decimals.
    torch.testing.assert_close(found.joint, found.elbo - found.energy, rtol=0, atol=1.5e-4)
    np.testing.assert_array_equal(fitted.score_samples(digits.images[:50]), found.joint.numpy())


def test_a_score_depends_on_its_picture_only(digits: Digits, fitted: VAEBMDetector) -> None:
    images = digits.images[:60]
    scores = fitted.score_samples(images)
    one_by_one = np.concatenate([fitted.score_samples(image[None]) for image in images])
    np.testing.assert_array_equal(one_by_one, scores)
    np.testing.assert_array_equal(fitted.score_samples(images[::-1])[::-1], scores)
    np.testing.assert_array_equal(changed(fitted, batch_size=7).score_samples(images), scores)


def test_the_picture_on_the_edge_stays_there(digits: Digits, fitted: VAEBMDetector) -> None:
    known = digits.images[:900]
    on_edge = np.flatnonzero(fitted.score_samples(known) == fitted.offset_)
    assert len(on_edge) == 1
    for size in (1, 2, 17, 250):
        around = np.concatenate([known[on_edge], known[:size]])
        assert fitted.predict(around)[0] == 1
        assert fitted.decision_function(around)[0] == 0


def test_all_forms_of_a_picture_have_one_score(
    digits: Digits, levels: NDArray[np.uint8], fitted: VAEBMDetector
) -> None:
    images, expected = digits.images[:20], fitted.score_samples(digits.images[:20])
    forms = [images[:, None], images[..., None], images.reshape(20, -1), images.astype(np.int64), images.tolist()]
    for form in [*forms, images.astype(np.float32), np.asfortranarray(images)]:
        np.testing.assert_array_equal(fitted.score_samples(form), expected)
    by_type = changed(fitted, value_range=None)
    np.testing.assert_array_equal(by_type.score_samples(levels[:20]), expected)
    np.testing.assert_array_equal(by_type.score_samples(images / 16), expected)


def test_flattened_and_whole_pictures_give_one_model(digits: Digits) -> None:
    whole = VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST).fit(digits.images[:80])
    flat = VAEBMDetector((8, 8), value_range=(0, 16), random_state=0, **SHORTEST).fit(
        digits.images[:80].reshape(80, -1)
    )
    assert whole.n_features_in_ == flat.n_features_in_ == 64
    assert whole.image_shape_ == flat.image_shape_ == (1, 8, 8)
    np.testing.assert_array_equal(whole.score_samples(digits.images), flat.score_samples(digits.images))


def test_colour_pictures_of_any_layout(levels: NDArray[np.uint8]) -> None:
    colour = np.stack([levels[:80], levels[80:160], levels[160:240]], 1)
    last = np.ascontiguousarray(colour.transpose(0, 2, 3, 1))
    detector = VAEBMDetector(random_state=0, **SHORTEST).fit(last)
    rows = VAEBMDetector((8, 8, 3), random_state=0, **SHORTEST).fit(last.reshape(80, -1))
    assert detector.image_shape_ == (3, 8, 8)
    np.testing.assert_array_equal(detector.score_samples(colour), detector.score_samples(last))
    np.testing.assert_array_equal(rows.score_samples(last.reshape(80, -1)), detector.score_samples(colour))
    with pytest.raises(ValueError, match="set image_shape"):
        detector.predict(last.reshape(80, -1))


def test_a_seed_gives_the_same_detector(digits: Digits) -> None:
    seeds = (1, 1, np.random.RandomState(1), 2)
    detectors = [VAEBMDetector(value_range=(0, 16), random_state=seed, **SHORTEST) for seed in seeds]
    scores = [detector.fit(digits.images[:80]).score_samples(digits.images[:9]) for detector in detectors]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    assert np.all(scores[0] != scores[3])


def test_no_global_seed_is_touched(digits: Digits) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    detector = VAEBMDetector(value_range=(0, 16), random_state=1, **SHORTEST).fit(digits.images[:80])
    changed(detector).predict(digits.images[:9])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]  # noqa: NPY002


SCORE = """
import sys, joblib, numpy as np
np.save(sys.argv[3], joblib.load(sys.argv[1]).score_samples(np.load(sys.argv[2])))
"""


def test_another_process_gives_the_same_scores(digits: Digits, fitted: VAEBMDetector, tmp_path: Path) -> None:
    joblib.dump(fitted, tmp_path / "detector.joblib")
    np.save(tmp_path / "images.npy", digits.images[:30])
    names = [str(tmp_path / name) for name in ("detector.joblib", "images.npy", "scores.npy")]
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", SCORE, *names], check=True)
    expected = fitted.score_samples(digits.images[:30])
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), expected)
    mapped = joblib.load(tmp_path / "detector.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.score_samples(digits.images[:30]), expected)
    assert mapped.model_.state_dict().keys() == fitted.model_.state_dict().keys()


def test_no_pictures_are_kept(digits: Digits) -> None:
    sizes = []
    for count in (100, 900):
        detector = VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST).fit(digits.images[:count])
        sizes.append(len(pickle.dumps(detector)) - 8 * len(detector.calibration_scores_))
    # A single picture has 64 bytes, those of the difference 51,200.
    assert abs(sizes[1] - sizes[0]) < 64


def test_a_clone_is_not_fitted(fitted: VAEBMDetector, digits: Digits) -> None:
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copied.predict(digits.images)
    with pytest.raises(NotFittedError):
        copied.calibration()


def test_a_fit_after_a_data_frame_forgets_its_columns(digits: Digits) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(digits.images[:80].reshape(80, -1), columns=[f"pixel_{index}" for index in range(64)])
    detector = VAEBMDetector((8, 8), value_range=(0, 16), random_state=0, **SHORTEST).fit(frame)
    np.testing.assert_array_equal(detector.score_samples(frame), detector.score_samples(digits.images[:80]))
    assert list(detector.feature_names_in_) == list(frame.columns)
    assert not hasattr(detector.fit(digits.images[:80]), "feature_names_in_")


def test_verbose_shows_both_stages(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    VAEBMDetector(value_range=(0, 16), random_state=0, verbose=True, **SHORTEST).fit(digits.images[:80])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("[VAEBMDetector] vae 1/3: elbo")
    assert lines[-1].startswith("[VAEBMDetector] energy 2/2: gap")
    VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST).fit(digits.images[:80])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contamination": 0}, "contamination is 0: expected a rate above 0, at most 0.5"),
        ({"contamination": 0.6}, "contamination is 0.6: expected"),
        ({"contamination": "auto"}, "contamination is 'auto': expected"),
        ({"calibration_share": 1.0}, "calibration_share is 1.0: expected a share between 0 and 1"),
        ({"num_vae_iterations": 0}, "num_vae_iterations is 0: expected a whole number of at least 1"),
        ({"num_energy_iterations": 2.5}, "num_energy_iterations is 2.5: expected"),
        ({"num_posterior_samples": None}, "num_posterior_samples is None: expected"),
        ({"batch_size": True}, "batch_size is True: expected"),
        ({"vae_learning_rate": -1.0}, "vae_learning_rate is -1.0: expected a number above 0"),
        ({"energy_learning_rate": float("nan")}, "energy_learning_rate is nan: expected"),
        ({"value_range": (1, 0)}, r"value_range is \(1, 0\): expected None or \(black, white\)"),
        ({"image_shape": (9, 9)}, r"of \(1, 8, 8\): expected \(1, 9, 9\)"),
        ({"image_shape": "large"}, "image_shape is 'large': expected"),
        ({"device": "abacus"}, "there is no device 'abacus' here"),
        ({"contamination": 0.01}, "n_samples = 80, of which 20 are set aside: contamination 0.01 needs at least 99"),
        ({"vae_learning_rate": 1e30}, "the vae stage diverged at iteration 2 .*: lower vae_learning_rate, which was"),
    ],
)
def test_wrong_parameters_end_with_one_line(digits: Digits, parameters: dict[str, Any], message: str) -> None:
    detector = VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST).set_params(**parameters)
    with pytest.raises(ValueError, match=message) as caught:
        detector.fit(digits.images[:80])
    assert "\n" not in str(caught.value)


def test_wrong_pictures_are_refused(digits: Digits, fitted: VAEBMDetector) -> None:
    broken = digits.images[:3].copy()
    broken[1, 2, 3] = np.nan
    wrong = [(broken, "NaN"), (digits.images[:3] * 2, "value_range is"), (digits.images[:3, :, :5], "expected")]
    for images, message in wrong:
        with pytest.raises(ValueError, match=message):
            fitted.predict(images)
    with pytest.raises(ValueError, match="1 sample"):
        VAEBMDetector(value_range=(0, 16)).fit(digits.images[:1])


def test_pictures_of_one_colour_are_fitted() -> None:
    detector = VAEBMDetector(random_state=0, **SHORT).fit(np.full((60, 8, 8), 90, np.uint8))
    assert (detector.predict(np.full((3, 8, 8), 250, np.uint8)) == -1).all()


def test_the_package_does_not_import_it() -> None:
    code = "import sys, vaebm; assert not {'vaebm.sklearn', 'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
