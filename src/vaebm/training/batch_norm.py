"""Batch norms of a decoder, estimated anew from what the decoder draws.

In training they see decoder features of posterior samples; in sampling those of prior samples, which differ.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def reestimate_batch_norms(vae: Any, num_passes: int, generator: torch.Generator, batch_size: int = 16) -> None:
    """Moves the running statistics of a decoder's batch norms to those of its own samples.

    Only what ``decode`` runs through changes: the encoder's batch norms stay. Without batch norms nothing happens.

    Arguments:
        vae: The VAE, changed in place; it is left in the mode that it was in.
        num_passes: The number of batches of samples (NVAE: 500).
        generator: The source of the noise.
        batch_size: The number of samples in a batch (NVAE: 16 before images are drawn).
    """
    norms = [module for module in vae.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    modes = [norm.training for norm in norms]
    device, size = next(vae.parameters()).device, vae.noise_layout.latent_size
    for norm in norms:
        norm.train()
    try:
        for _ in range(num_passes):
            vae.decode(torch.randn(batch_size, size, generator=generator, device=generator.device).to(device))
    finally:
        for norm, mode in zip(norms, modes, strict=True):
            norm.train(mode)
