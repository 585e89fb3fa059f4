import numpy as np

from vaebm.reports import Evaluation, NearestImages, headline
from vaebm.reports.sentences import limits, nearest_sentence, p_value_sentence, steps_sentence, weak_spots


def test_headline_tells_the_gain_of_both_judges(evaluation: Evaluation) -> None:
    plain = headline(evaluation).replace("\u00a0", " ")
    assert plain == (
        "The energy network closes 95.9 % of the Fréchet distance between its VAE and real images: "
        "427 → 20.5 (floor 3.20, a-judge), 640 → 30.8 (floor 4.80, b-judge)."
    )


def test_headline_takes_the_first_vaebm_and_does_not_hide_a_loss() -> None:
    rows = [("VAE", 40.0, None), ("VAEBM, long", 50.0, -0.3), ("VAEBM, short", 20.0, 0.5)]
    evaluation: Evaluation = {"quality": [{"what": what, "frechet": fd, "closed": closed} for what, fd, closed in rows]}
    assert headline(evaluation) == "The energy network does not help: Fréchet distance 50.0 with it, 40.0 without."
    assert headline({"quality": evaluation["quality"][:1]}) == ""
    assert headline({"quality": [{"what": "VAE", "frechet": 4.0}, {"what": "VAEBM", "frechet": float("nan")}]}) == ""


def test_headline_without_a_floor_gives_the_distances() -> None:
    evaluation: Evaluation = {"quality": [{"what": "VAE", "frechet": 40.0}, {"what": "VAEBM", "frechet": 20.0}]}
    assert headline(evaluation) == "The energy network brings the Fréchet distance from 40.0 to 20.0."


def test_steps_sentence_compares_the_longest_chain_with_the_best(evaluation: Evaluation) -> None:
    assert "after 400 steps it is 39.0, 1.90 times as large" in steps_sentence(evaluation)
    assert "longest chain measured, 40 steps" in steps_sentence({"steps_curve": evaluation["steps_curve"][:3]})
    assert steps_sentence({"steps_curve": evaluation["steps_curve"][:1]}) == ""


def test_weak_spots_name_the_worst_set_of_each_score() -> None:
    def entry(score: str, name: str, value: float) -> dict[str, object]:
        return {"score": score, "set": name, "auroc": {"value": value, "low": value - 0.01, "high": value + 0.01}}

    entries = [entry("energy", "noise", 0.3), entry("energy", "grey", 0.9), entry("elbo", "noise", 0.99)]
    first, second = weak_spots({"outliers": entries})  # type: ignore[typeddict-item]
    assert first.startswith("The energy is weakest on noise: AUROC 0.300 [0.290, 0.310], worse than chance")
    assert second.startswith("The ELBO is weakest on noise: AUROC 0.990")
    assert p_value_sentence({}) == ""


def test_nearest_sentence_warns_of_copies_only() -> None:
    generator = np.random.default_rng(0)
    training = generator.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8)

    def near(samples: np.ndarray) -> NearestImages:
        flat = samples.reshape(len(samples), -1).astype(float)
        distances = np.linalg.norm(flat[:, None] - training.reshape(50, -1), axis=2)
        order = np.argsort(distances, 1)[:, :3]
        unseen = generator.integers(0, 256, (20, 64)).astype(float)
        reference = np.linalg.norm(unseen[:, None] - training.reshape(50, -1), axis=2).min(1)
        return NearestImages(samples, training[order], np.take_along_axis(distances, order, 1), "pixels", reference)

    assert "look at them with care" in nearest_sentence(near(training[:5]))
    assert "no sign of copying" in nearest_sentence(near(generator.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)))
    images = near(training[:5])
    assert nearest_sentence(NearestImages(images.samples, images.neighbours, images.distances)).endswith("pixels).")


def test_an_energy_on_the_mean_image_has_one_more_limit() -> None:
    assert len(limits({"model": {"chain_image": "mean"}})) == len(limits({"model": {"chain_image": "sampled"}})) + 1


def test_judges_of_other_scales_are_not_compared_with_each_other() -> None:
    rows = [
        {"judge": judge, "what": what, "frechet": distance, **({"closed": 0.5} if what == "VAEBM" else {})}
        for judge, distances in (("a", (72.7, 37.4)), ("b", (186.0, 94.0)))
        for what, distance in zip(("VAE", "VAEBM"), distances, strict=True)
    ]
    assert "does not help" not in headline({"quality": rows})
    rows[3]["frechet"] = 190.0
    assert "does not help" in headline({"quality": rows})
