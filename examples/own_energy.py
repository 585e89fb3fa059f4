"""An energy and a kernel of your own: bright digits from a VAE that knows nothing of brightness.

    python examples/own_energy.py

An `EnergyFn` is any module (B, C, H, W) -> (B,). A `Kernel` is any pure function (state, log_density, generator) ->
(state, info). Two kernels on the same density must agree, which is what is asserted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import vaebm
from vaebm.data import Batches, load_splits
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, ImageFields
from vaebm.sampling import ChainState, KernelInfo, LogDensity, Transition, accept
from vaebm.training import VAESettings, fit, start_vae, vae_step


class Brightness(nn.Module):
    """E(x) = ½ ((mean of x − target) / width)²."""

    def forward(self, images: Tensor) -> Tensor:
        return 0.5 * ((images.clamp(-1, 1).flatten(1).mean(1) + 0.15) / 0.02).square()


@dataclass(frozen=True)
class RandomWalk:
    """Metropolis' kernel: propose noise + scale · ξ, accept with probability min(1, h(proposal) / h(noise))."""

    scale: float

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        with torch.no_grad():
            proposal = state.noise + self.scale * torch.randn(state.noise.shape, generator=generator)
            before, after = log_density(state.noise), log_density(proposal)
            state_after, probability = accept(state, ChainState(proposal), after - before, generator)
        noise = state_after.noise
        moved = (noise - state.noise).norm(dim=1)
        return Transition(ChainState(noise), KernelInfo(before, torch.full_like(moved, torch.nan), moved, probability))


generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)
splits, settings = load_splits("digits"), VAESettings(num_iterations=300, kl_weight=10.0)
vae = ConvVAE(splits.training.shape, latent_groups=(16,), widths=(256, 128))
batches = Batches(torch.from_numpy(splits.training.images), settings.batch_size, torch.Generator().manual_seed(1))
list(fit(vae_step(vae, settings, make_engine("fp32", "cpu")), start_vae(vae, settings, generator), batches, 300))

model = VAEBM(vae.requires_grad_(False), Brightness(), ImageFields("mean", "mean", "mean"))
plain = vaebm.generate(model, 500, num_steps=0, step_size=0.02, generator=generator).flatten(1).mean(1)
drift = vaebm.generate(model, 500, num_steps=400, step_size=0.02, generator=generator).flatten(1).mean(1)
walk = vaebm.generate(model, 500, num_steps=800, kernel=RandomWalk(0.25), generator=generator).flatten(1).mean(1)
assert (walk.mean() + 0.15).abs() < (plain.mean() + 0.15).abs(), "the energy should pull to its target"
assert (walk.mean() - drift.mean()).abs() < 0.01, "two kernels on one density should agree"
print(f"mean brightness: VAE {plain.mean():.3f}, Langevin {drift.mean():.3f}, random walk {walk.mean():.3f}")
