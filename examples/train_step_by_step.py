"""Both training stages, driven step by step as in a notebook, on scikit-learn's 8×8 digits.

    python examples/train_step_by_step.py

A stage is a step function and a state. `fit` is a generator, so that logging, plots and checkpoints are yours.
"""

import torch

import vaebm
from vaebm.data import Batches, load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.evaluation import frechet_to_reference, make_reference
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import load_judges
from vaebm.training import EnergySettings, VAESettings, energy_step, fit, start_energy, start_vae, vae_step


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# %% Data, networks, and where they run
splits = load_splits("digits")
training, engine = torch.from_numpy(splits.training.images), make_engine("fp32", "cpu")
torch.manual_seed(0)
vae = ConvVAE(splits.training.shape, latent_groups=(16,), widths=(256, 128), scale=0.1)
energy = EnergyNetwork(splits.training.shape, widths=(32, 64), stem_kernel_size=3, num_hidden=64)
model = VAEBM(vae, energy, ImageFields(chain_image="sampled", loss_image="sampled", output_image="mean"))

# %% Stage 1: the VAE on its ELBO
elbos: list[float] = []
vae_settings = VAESettings(num_iterations=500, kl_weight=10.0)
batches = Batches(training, vae_settings.batch_size, seeded(1))
start = start_vae(vae, vae_settings, seeded(2))
for seen in fit(vae_step(vae, vae_settings, engine), start, batches, vae_settings.num_iterations):
    elbos.append(seen.figures["elbo"])
assert elbos[-1] > elbos[0], "the ELBO should rise"

# %% Stage 2: the energy network on data against the ends of short chains, the VAE frozen
gaps: list[float] = []
settings = EnergySettings(num_iterations=120, num_steps=10)
batches = Batches(training, settings.batch_size, seeded(3))
state = start_energy(model, settings, to_float(training[:128]), seeded(4))
for progress in fit(energy_step(model, settings, engine), state, batches, settings.num_iterations):
    state = progress.state
    gaps.append(progress.figures["gap"])
model.energy.load_state_dict(state.average)
model.eval().requires_grad_(False)

# %% What the energy network adds, in the eyes of a classifier of such digits; 0 steps are the VAE
test, real = to_float(splits.test.images), to_float(splits.training.images)
reference = make_reference(load_judges(model.image_shape)[0], test, real, num_samples=300, generator=seeded(5))
images = [vaebm.generate(model, 300, num_steps=steps, step_size=0.05, generator=seeded(6)) for steps in (0, 30)]
before, after = (frechet_to_reference(samples, reference) for samples in images)
assert after < before, "the VAEBM should beat the VAE inside it"
print(f"ELBO {elbos[-1]:.0f} nats, last gap {gaps[-1]:.2f}; Fréchet distance {before:.1f} -> {after:.1f}")
