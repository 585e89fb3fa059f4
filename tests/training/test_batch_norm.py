"""Batch norms of a decoder, estimated anew from its own samples."""

from __future__ import annotations

import torch
from torch import nn

from vaebm.models import NVAE, ConvVAE
from vaebm.training import reestimate_batch_norms


def test_statistics_become_those_of_samples_and_the_encoder_stays() -> None:
    torch.manual_seed(0)
    vae = NVAE((3, 16, 16), (1, 1), 2, 4, 4).eval()
    encoder = {name: value.clone() for name, value in vae.inward.state_dict().items()}
    (first,) = [module for module in vae.groups[1].cells[0].branch if isinstance(module, nn.BatchNorm2d)][:1]
    reestimate_batch_norms(vae, 300, torch.Generator().manual_seed(1))
    assert all(torch.equal(value, encoder[name]) for name, value in vae.inward.state_dict().items())
    assert not any(module.training for module in vae.modules())
    seen: list[torch.Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        vae.decode(torch.randn(400, vae.noise_layout.latent_size, generator=torch.Generator().manual_seed(2)))
    features = seen[0].transpose(0, 1).flatten(1)
    assert torch.allclose(first.running_mean, features.mean(1), atol=0.1)
    assert torch.allclose(first.running_var, features.var(1), rtol=0.15, atol=0.02)


def test_without_batch_norms_or_passes_nothing_happens() -> None:
    vae = ConvVAE((1, 8, 8), (2,), widths=(8,))
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    reestimate_batch_norms(vae, 10, generator)
    assert torch.equal(generator.get_state(), before)
    norms = NVAE((1, 8, 8), (1,), 2, 4, 4)
    weights = {name: value.clone() for name, value in norms.state_dict().items()}
    reestimate_batch_norms(norms, 0, generator)
    assert all(torch.equal(value, weights[name]) for name, value in norms.state_dict().items())
