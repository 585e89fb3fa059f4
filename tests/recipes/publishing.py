"""Writes networks of this package under the names of a published checkpoint, for importing them back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.models import NVAE, EnergyNetwork

WITHOUT_BIAS = ("skip.0", "skip.1", "convz.0", "convz.2")


class Export:
    """Tensors by their published names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def put(self, name: str, value: Tensor) -> None:
        assert name not in self.tensors
        self.tensors[name] = value.detach().clone()

    def convolution(self, name: str, layer: Any) -> None:
        layer = getattr(layer, "convolution", layer)
        self.put(f"{name}.weight", layer.parametrizations.weight.original)
        self.put(f"{name}.log_weight_norm", layer.parametrizations.weight[0].log_norm)
        assert (layer.bias is None) == name.endswith(WITHOUT_BIAS)
        if layer.bias is not None:
            self.put(f"{name}.bias", layer.bias)

    def excitation(self, name: str, cell: Any) -> None:
        if not isinstance(cell.excitation, nn.Identity):
            for index, layer in ((0, cell.excitation.squeeze), (2, cell.excitation.excite)):
                self.put(f"{name}.se.se.{index}.weight", layer.weight)
                self.put(f"{name}.se.se.{index}.bias", layer.bias)

    def batch_norm(self, name: str, layer: Any) -> None:
        for part, value in layer.state_dict().items():
            self.put(f"{name}.{part}", value)

    def encoder_cell(self, name: str, cell: Any) -> None:
        norms = [layer for layer in cell.branch if isinstance(layer, nn.BatchNorm2d)]
        convolutions = [layer for layer in cell.branch if isinstance(layer, nn.Conv2d)]
        for index, (norm, convolution) in enumerate(zip(norms, convolutions, strict=True)):
            self.batch_norm(f"{name}._ops.{index}.bn_act", norm)
            self.convolution(f"{name}._ops.{index}.conv_0", convolution)
        self.excitation(name, cell)
        for index, part in enumerate(getattr(cell.skip, "parts", ())):
            self.convolution(f"{name}.skip.conv_{index + 1}", part)

    def decoder_cell(self, name: str, cell: Any) -> None:
        is_up = not isinstance(cell.skip, nn.Identity)
        layers = [layer for layer in cell.branch if isinstance(layer, nn.BatchNorm2d | nn.Conv2d)]
        places = ("0.bn", "1.conv.0", "1.conv.1", "2.conv.0", "2.conv.1", "3", "4.bn")
        for place, layer in zip(places, layers, strict=True):
            number, *rest = place.split(".")
            inner = ".".join([f"{name}._ops.0.conv.{int(number) + is_up}", *rest])
            if isinstance(layer, nn.BatchNorm2d):
                self.batch_norm(inner, layer)
            else:
                self.put(f"{inner}.weight", layer.weight)
                self.tensors[f"{inner}.weight_normalized"] = self.tensors[f"{inner}.weight"]
        self.excitation(name, cell)
        if is_up:
            self.convolution(f"{name}.skip.1", cell.skip.convolution)

    def encoder(self, vae: Any) -> None:
        """The tower is bottom-up: the cells of a group, what joins the decoder's feature to them, a down cell."""
        groups = list(vae.groups)
        waiting = [group.combiner for group in reversed(groups)]
        place = 0
        for block in vae.encoder:
            if hasattr(block, "branch"):
                self.encoder_cell(f"enc_tower.{place}", block)
                place += 1
                continue
            for cell in block:
                self.encoder_cell(f"enc_tower.{place}", cell)
                place += 1
            combiner = waiting.pop(0)
            if combiner is not None:
                self.convolution(f"enc_tower.{place}.conv", combiner)
                place += 1

    def decoder(self, vae: Any) -> None:
        """The tower is top-down: the cells of a group, what takes its latents in; an up cell between scales."""
        place, flows = 0, 0
        for index, (rise, group) in enumerate(vae._steps()):
            for is_rise, cell in [(True, rise)] * (rise is not None) + [(False, cell) for cell in group.cells]:
                assert is_rise == (not isinstance(cell.skip, nn.Identity))
                self.decoder_cell(f"dec_tower.{place}", cell)
                place += 1
            self.convolution(f"dec_tower.{place}.conv", group.merger)
            place += 1
            self.convolution(f"enc_sampler.{index}", group.posterior_map)
            if index:
                self.convolution(f"dec_sampler.{index - 1}.1", group.prior_map)
            for pair in group.flows:
                for cell, flow in (("cell1", pair.forth), ("cell2", pair.back)):
                    self.convolution(f"nf_cells.{flows}.{cell}.conv.convz.0", flow.first)
                    self.convolution(f"nf_cells.{flows}.{cell}.conv.convz.2", flow.depthwise)
                    self.convolution(f"nf_cells.{flows}.{cell}.mu.conv_0", flow.last)
                flows += 1


def settings_of(vae: NVAE) -> dict[str, Any]:
    """Returns the ``args`` of a published NVAE, but for groups that aren't as many at each scale."""
    own = vae.arguments
    return {
        "dataset": "cifar10",
        "arch_instance": "res_mbconv",
        "num_mixture_dec": 1,
        "num_latent_scales": len(own["groups"]),
        "num_groups_per_scale": own["groups"][-1],
        "min_groups_per_scale": 1,
        "ada_groups": False,
        "num_latent_per_group": own["latents"],
        "num_channels_enc": own["encoder_width"],
        "num_channels_dec": own["decoder_width"],
        "num_cell_per_cond_enc": own["encoder_cells"],
        "num_cell_per_cond_dec": own["decoder_cells"],
        "num_preprocess_blocks": own["outer_blocks"],
        "num_postprocess_blocks": own["outer_blocks"],
        "num_preprocess_cells": own["outer_cells"],
        "num_postprocess_cells": own["outward_cells"] or own["outer_cells"],
        "num_nf": own["num_flows"],
        "res_dist": own["is_residual"],
        "use_se": own["has_excitation"],
    }


def vae_tensors(vae: NVAE) -> dict[str, Tensor]:
    """Returns the tensors of an NVAE by their published names."""
    export = Export()
    export.put("prior_ftr0", vae.start)
    export.convolution("stem", vae.stem)
    export.convolution("enc0.1", vae.peak)
    export.convolution("image_conditional.1", vae.pixels)
    for index, cell in enumerate(vae.inward):
        export.encoder_cell(f"pre_process.{index}", cell)
    for index, cell in enumerate(vae.outward):
        export.decoder_cell(f"post_process.{index}", cell)
    export.encoder(vae)
    export.decoder(vae)
    return export.tensors


def write_vae(vae: NVAE, path: Path, **settings: Any) -> None:
    """Writes checkpoint.pt of an NVAE."""
    content = {"args": argparse.Namespace(**settings_of(vae) | settings), "state_dict": vae_tensors(vae), "epoch": 1}
    torch.save(content, path)


def energy_tensors(energy: EnergyNetwork) -> dict[str, Tensor]:
    """Returns the tensors of an energy network by their published names."""
    export = Export()

    def convolution(name: str, layer: Any) -> None:
        norm, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
        length = direction.flatten(1).norm(dim=1).view(norm.shape)
        export.put(f"{name}.weight", direction)
        export.put(f"{name}.log_weight_norm", (norm * (length + 1e-5) / length).log())
        assert (layer.bias is None) == name.endswith(WITHOUT_BIAS)
        if layer.bias is not None:
            export.put(f"{name}.bias", layer.bias)

    layers: list[Any] = list(energy.body)
    convolution("conv1", layers[0])
    for index, block in enumerate(layers[2:]):
        convolution(f"blocks.{index}.conv1", block.first)
        convolution(f"blocks.{index}.conv2", block.second)
        if block.skip is not None:
            convolution(f"blocks.{index}.skip.0", block.skip)
    head: Any = energy.head[0]
    export.put("linear.weight", head.weight)
    export.put("linear.bias", head.bias)
    return export.tensors


def shaken(network: Any, seed: int = 0) -> Any:
    """Returns a network, in evaluation mode, with a value of its own in each entry of each tensor."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                is_positive = name.endswith(("running_var", "original0"))
                value.copy_(value * (0.1 * noise).exp() if is_positive else value + 0.1 * noise)
    return network.eval()
