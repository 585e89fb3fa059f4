"""The configuration of a run with NVAE, and the paper's recipes.

Settings are those of the released commands (stage 1: NVAE's, stage 2: VAEBM's), epochs turned into iterations of the
batch over all of their GPUs. Where command and paper differ, the command is used, and the recipe says so.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vaebm.recipes.config import Config


@dataclass(frozen=True)
class NVAENetworkConfig:
    """The arguments of ``vaebm.models.NVAE``, but the image shape.

    Arguments:
        groups: The number of latent groups of each scale, the coarsest first.
        latents: The number of latent channels of a group.
        encoder_width: The channels of the encoder at full resolution.
        decoder_width: The same of the decoder.
        encoder_cells: The number of residual cells for each group in the encoder.
        decoder_cells: The same in the decoder.
        outer_blocks: How often the resolution is halved before the finest scale.
        outer_cells: The number of residual cells of each of these blocks.
        num_flows: The number of pairs of inverse-autoregressive flows of each posterior.
        is_residual: Whether the posterior's parameters add to those of the prior.
        has_excitation: Whether the channels of each cell are gated.
        scale_kind: pixel (predicted for each pixel), or fixed at least_scale.
        least_scale: The least pixel scale, in units of the range [−1, 1]; 0.01 is NVAE's.
        outward_cells: The number of residual cells of each outer block of the decoder, 0 for outer_cells.
    """

    groups: tuple[int, ...] = (2, 2)
    latents: int = 20
    encoder_width: int = 32
    decoder_width: int = 32
    encoder_cells: int = 2
    decoder_cells: int = 2
    outer_blocks: int = 1
    outer_cells: int = 2
    num_flows: int = 0
    is_residual: bool = True
    has_excitation: bool = True
    scale_kind: str = "pixel"
    least_scale: float = 0.01
    outward_cells: int = 0


@dataclass(frozen=True)
class NVAEConfig(Config):
    __doc__ = Config.__doc__

    vae_network: NVAENetworkConfig = field(default_factory=NVAENetworkConfig)  # type: ignore[assignment]  # a family's own


def config_class(values: Mapping[str, Any]) -> type[Config]:
    """Returns the class of a configuration's nested values: that of NVAE if its network has ``groups``."""
    network = values.get("vae_network")
    return NVAEConfig if isinstance(network, Mapping) and "groups" in network else Config
