"""The public names: save and load a model, generate images, and draw them; a small model is trained first.

    python examples/sample_and_plot.py

With a model at hand, `vaebm.load(NAME)` is all that the first part comes to.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import vaebm
from vaebm.applications import sample_chains, start_noise
from vaebm.data import Batches, load_splits, to_float, to_uint8
from vaebm.distributed import make_engine
from vaebm.plots import chain_frames, gif_bytes, image_grid, png_bytes
from vaebm.recipes import RECIPES, build_model
from vaebm.sampling import Langevin
from vaebm.training import energy_step, fit, start_energy, start_vae, vae_step

folder = Path(tempfile.mkdtemp())
generator = torch.Generator().manual_seed(0)

# %% Train: the recipe for 8×8 digits, shortened
recipe = RECIPES["digits"]()
config = replace(recipe, vae=replace(recipe.vae, num_iterations=300), energy=replace(recipe.energy, num_iterations=60))
splits, engine = load_splits("digits"), make_engine("fp32", "cpu")
torch.manual_seed(0)
trained = build_model(config, splits.training.shape)
batches = Batches(torch.from_numpy(splits.training.images), 64, torch.Generator().manual_seed(1))
vae_start = start_vae(trained.vae, config.vae, generator)
list(fit(vae_step(trained.vae, config.vae, engine), vae_start, batches, config.vae.num_iterations))
energy_start = start_energy(trained, config.energy, to_float(splits.training.images[:128]), generator)
list(fit(energy_step(trained, config.energy, engine), energy_start, batches, config.energy.num_iterations))

# %% Save and load: a folder with the weights, the configuration and a card, every byte checked
vaebm.save(trained, folder / "model")
model = vaebm.load(folder / "model")
noise = start_noise(model, 16, generator)
twice = [vaebm.generate(m, 16, noise=noise, generator=torch.Generator().manual_seed(2)) for m in (trained, model)]
assert torch.equal(twice[0], twice[1]), "a loaded model should be the saved one, to the bit"

# %% Draw: the VAE above the VAEBM, from the same noise, and the chains between them
vae_images = vaebm.generate(model, 16, noise=noise, num_steps=0, generator=generator)
(folder / "grid.png").write_bytes(png_bytes(image_grid(to_uint8(torch.cat([vae_images, twice[1]])), 16, scale=6)))
looks = list(sample_chains(model, noise, 30, Langevin(0.05), generator))
energies = np.stack([look.energies.numpy() for look in looks])
frames = chain_frames(np.stack([to_uint8(look.images) for look in looks]), energies, np.arange(len(looks)))
(folder / "chain.gif").write_bytes(gif_bytes(frames, 120))
assert energies[-1].mean() < energies[0].mean(), "chains should lower the energy"
print(f"{folder}: grid.png, chain.gif; mean energy {energies[0].mean():.2f} -> {energies[-1].mean():.2f}")
