"""Outlier scores and conformal p-values: how odd is an image, and how often would a normal one look as odd?

    python examples/outliers.py

A small VAEBM is trained on 8×8 digits. Its scores on the calibration split turn the score of any image into a p-value.
"""

from dataclasses import replace

import torch
from torch import Tensor

import vaebm
from vaebm.applications import OutlierScores
from vaebm.data import Batches, load_splits, outlier_sets, to_float
from vaebm.distributed import make_engine
from vaebm.metrics import conformal_p_values, false_positive_rates, rank_outliers
from vaebm.recipes import RECIPES, build_model
from vaebm.training import energy_step, fit, start_energy, start_vae, vae_step

# %% Train: the recipe for 8×8 digits, shortened
recipe = RECIPES["digits"]()
config = replace(recipe, vae=replace(recipe.vae, num_iterations=400), energy=replace(recipe.energy, num_iterations=80))
splits, engine = load_splits("digits"), make_engine("fp32", "cpu")
generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)
model = build_model(config, splits.training.shape)
batches = Batches(torch.from_numpy(splits.training.images), 64, torch.Generator().manual_seed(1))
vae_start = start_vae(model.vae, config.vae, generator)
list(fit(vae_step(model.vae, config.vae, engine), vae_start, batches, config.vae.num_iterations))
state = start_energy(model, config.energy, to_float(splits.training.images[:128]), generator)
for progress in fit(energy_step(model, config.energy, engine), state, batches, config.energy.num_iterations):
    state = progress.state
model.energy.load_state_dict(state.average)
model.eval().requires_grad_(False)


# %% Scores: the same noise for every set, so that the scores of normal images are exchangeable
def score(images: Tensor) -> OutlierScores:
    return vaebm.outlier_scores(model, images, generator=torch.Generator().manual_seed(7))


calibration, normal = score(to_float(splits.calibration.images)), score(to_float(splits.test.images))
rate = false_positive_rates(conformal_p_values(calibration.outlier_score, normal.outlier_score))[0.05]
# 200 calibration and 300 test images: the rate scatters by about two points around its level.
assert abs(rate - 0.05) < 0.05, rate
lines = []
for name, images in outlier_sets(to_float(splits.test.images), generator).items():
    odd = score(images)
    pairs = {"energy": (normal.energy, odd.energy), "joint": (normal.outlier_score, odd.outlier_score)}
    area = {key: rank_outliers(*pair, num_bootstrap=1, generator=generator).auroc.value for key, pair in pairs.items()}
    lines.append(f"{name} {area['energy']:.2f} / {area['joint']:.2f}")
    # Averages of digits have a high ELBO, whose spread outweighs a young energy: see docs/scores.md.
    assert area["energy" if name == "averaged pairs" else "joint"] > 0.6, f"{name} should score as outliers"
print(f"{100 * rate:.1f} % of unseen digits flagged at 5 %; AUROC of energy / joint: {', '.join(lines)}")
