"""A small real run to report on: digits, a linear VAE (probabilistic PCA) and Langevin on a kernel density's energy."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from vaebm.reports import Evaluation, NearestImages, ReportContent

STEPS = np.arange(0, 41, 2)


def as_images(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pixels * 15.9375), 0, 255).astype(np.uint8).reshape(*pixels.shape[:-1], 1, 8, 8)


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    def row(judge: str, what: str, frechet: float, **more: object) -> dict[str, object]:
        return {"judge": judge, "judge_sha256": judge[0] * 64, "what": what, "n": 500, "frechet": frechet, **more}

    shares = [0.1, 0.12, 0.08, 0.1, 0.1, 0.09, 0.11, 0.1, 0.1, 0.1]
    quality = []
    for judge, factor in (("a-judge", 1.0), ("b-judge", 1.5)):
        quality += [
            row(judge, "floor", 3.2 * factor, precision=0.95, closed=None, shares=[0.1] * 10),
            row(judge, "VAE", 427 * factor, precision=0.41, closed=0.0, kernel=1.74, kernel_std=0.021),
            row(judge, "VAEBM, sampled", 20.5 * factor, precision=0.85, closed=0.959, shares=shares),
        ]
    area = {"energy": (0.505, 0.49, 0.52), "elbo": (1.0, 1.0, 1.0), "joint": (0.998, 0.997, 0.999)}
    outliers = [
        {"set": name, "score": score, "auroc": {"value": value, "low": low, "high": high}, "num_outliers": 400}
        for name in ("uniform noise", "grey") for score, (value, low, high) in area.items()
    ]  # fmt: skip
    return {  # type: ignore[typeddict-item]
        "n": 500, "seed": 3, "num_steps": 40, "trained_steps": 15, "quality": quality, "outliers": outliers,
        "steps_curve": [{"num_steps": steps, "judge": "a-judge", "frechet": value}
                        for steps, value in ((0, 427.0), (15, 31.4), (40, 20.5), (400, 39.0))],
        "p_values": [{"level": 0.05, "measured": 0.0535, "n": 10000}],
        "diagnostics": {"noise": {"norm": 1.31}, "gap": "nan"},
    }  # fmt: skip


@pytest.fixture(scope="session")
def content(evaluation: Evaluation) -> ReportContent:
    pixels = load_digits().data
    training, held_out = pixels[:1200], pixels[1200:1500]
    pca = PCA(16).fit(training)
    scale = np.sqrt(pca.explained_variance_)

    def decode(noise: np.ndarray) -> np.ndarray:
        return pca.mean_ + noise * scale @ pca.components_

    def energy_and_slope(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = decode(noise)
        logits = -((image[:, None] - training) ** 2).sum(-1) / 60
        slope = (image - softmax(logits, 1) @ training) / 30 @ pca.components_.T * scale
        return -logsumexp(logits, 1), slope

    generator = np.random.default_rng(0)
    noise, images, energies = generator.standard_normal((24, 16)), [], []
    for step in range(STEPS[-1] + 1):
        energy, slope = energy_and_slope(noise)
        if step in STEPS:
            images.append(as_images(decode(noise)))
            energies.append(energy)
        noise = noise - 0.01 * (slope + noise) + np.sqrt(0.02) * generator.standard_normal(noise.shape)
    ends = decode(noise)[:6]
    distances = np.sqrt(((ends[:, None] - training) ** 2).sum(-1))
    order = np.argsort(distances, 1)[:, :4]
    reference = np.sqrt(((held_out[:, None] - training) ** 2).sum(-1)).min(1)
    near = NearestImages(as_images(ends), as_images(training[order]), np.take_along_axis(distances, order, 1),
                         reference_distances=reference)  # fmt: skip
    vae = [{"stage": "vae", "iteration": i, "elbo": -50 - 200 / (i + 1), "kl": 9.0} for i in range(0, 300, 10)]
    net = [{"stage": "energy", "iteration": i, "data_energy": -0.5, "sample_energy": 0.5 / (i + 1), "gap": -1.0,
            "noise_norm": 1.0 + i / 900, "loss": "nan" if i == 5 else -1.0} for i in range(300)]  # fmt: skip
    return ReportContent(
        "digits", "A linear VAE on 8 × 8 digits.", {"images": {"chain_image": "sampled", "output_image": "mean"}},
        {"version": "0.1.0", "seconds": {"vae": 1.5}}, images[0], images[-1], as_images(held_out[:24]),
        np.stack(images), np.stack(energies), STEPS, [*vae, *net], evaluation, near,
    )  # fmt: skip
