"""A published NVAE: its settings and tensors, by the names of ``vaebm.models.NVAE``.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.checkpoint.errors import CheckpointError
from vaebm.checkpoint.published import Published, PublishedTensors, read_content, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

# More than any network that was published, and few enough to be counted.
MOST_PARTS, MOST_CHANNELS = 200, 2**14
ARCHITECTURE = "res_mbconv"


def read_published_vae(path: str | Path) -> Published:
    """Reads an NVAE with Gaussian pixels.

    Arguments:
        path: ``checkpoint.pt``, with ``args`` and ``state_dict``.

    Returns:
        The arguments and tensors of ``vaebm.models.NVAE``.

    Raises:
        CheckpointError: If the file can't be read, holds anything but tensors and plain values, is of an architecture
            that VAEBM can't use, or lacks tensors or has too many.
    """
    path = Path(path)
    content = read_content(path)
    settings = content.get("args")
    settings = vars(settings) if isinstance(settings, argparse.Namespace) else settings
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"{path} has no 'args': expected an NVAE's checkpoint.pt in the published layout")
    source = read_tensors(path, content, "state_dict")
    arguments = _vae_arguments(path, settings, source)
    translation = _Translation(source, arguments)
    translation.run()
    source.check_all_used()
    plain = {name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)}
    return Published(arguments, translation.tensors, translation.names, path, plain)


def _vae_arguments(path: Path, settings: Mapping[str, Any], source: PublishedTensors) -> dict[str, Any]:
    _check_settings(path, settings)

    def number(name: str, default: int, least: int = 1, most: int = MOST_PARTS) -> int:
        value = settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CheckpointError(f"{path}: args.{name} is {value!r}: expected a whole number from {least} to {most:,}")
        return value

    num_scales, num_groups = number("num_latent_scales", 1), number("num_groups_per_scale", 10)
    counts = [num_groups]
    for _ in range(num_scales - 1):
        halved = max(number("min_groups_per_scale", 1), counts[-1] // 2)
        counts.append(halved if settings.get("ada_groups") else num_groups)
    outer_blocks = number("num_preprocess_blocks", 2, least=0)
    top = source.shape("prior_ftr0")
    factor = 2 ** (outer_blocks + num_scales - 1)
    if len(top) != 3:
        raise CheckpointError(f"{path}: prior_ftr0 has shape {top}: expected (channels, height, width)")
    return {
        "image_shape": [source.shape("stem.weight")[1], top[1] * factor, top[2] * factor],
        "groups": counts[::-1],
        "latents": number("num_latent_per_group", 20, most=MOST_CHANNELS),
        "encoder_width": number("num_channels_enc", 32, most=MOST_CHANNELS),
        "decoder_width": number("num_channels_dec", 32, most=MOST_CHANNELS),
        "encoder_cells": number("num_cell_per_cond_enc", 1),
        "decoder_cells": number("num_cell_per_cond_dec", 1),
        "outer_blocks": outer_blocks,
        "outer_cells": number("num_preprocess_cells", 3, least=0),
        "num_flows": number("num_nf", 0, least=0),
        "is_residual": bool(settings.get("res_dist", False)),
        "has_excitation": bool(settings.get("use_se", False)),
    }


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    if settings.get("arch_instance", ARCHITECTURE) != ARCHITECTURE:
        raise CheckpointError(
            f"{path} is of the architecture {settings['arch_instance']!r}: expected {ARCHITECTURE!r}, the published one"
        )
    if settings.get("num_mixture_dec", 10) != 1:
        raise CheckpointError(
            f"{path} has pixels of a mixture of {settings.get('num_mixture_dec', 10)} logistics, through which no "
            "chain can run: expected an NVAE with Gaussian pixels (num_mixture_dec 1)"
        )
    for inner, outer in (("preprocess_blocks", "postprocess_blocks"), ("preprocess_cells", "postprocess_cells")):
        if settings.get(f"num_{inner}") != settings.get(f"num_{outer}"):
            raise CheckpointError(f"{path} has other {inner} than {outer}: expected as many")


class _Translation:
    """Turns the names of a published NVAE into those of this package."""

    def __init__(self, source: PublishedTensors, arguments: Mapping[str, Any]) -> None:
        self.source, self.arguments = source, arguments
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}

    def run(self) -> None:
        """Fills ``tensors`` and ``names``."""
        self._put("start", "prior_ftr0")
        self._convolution("stem", "stem")
        self._convolution("peak", "enc0.1")
        self._convolution("pixels", "image_conditional.1")
        cells = self.arguments["outer_blocks"] * self.arguments["outer_cells"]
        for index in range(cells):
            self._encoder_cell(f"inward.{index}", f"pre_process.{index}", self._is_last(index))
            self._decoder_cell(f"outward.{index}", f"post_process.{index}", index % self.arguments["outer_cells"] == 0)
        combiners = self._encoder()
        self._groups(combiners)

    def _is_last(self, index: int) -> bool:
        return (index + 1) % int(self.arguments["outer_cells"]) == 0

    def _encoder(self) -> list[int]:
        """Translates the encoder, bottom-up, and returns the places of its combiners."""
        total, place, block, seen = sum(self.arguments["groups"]), 0, 0, 0
        combiners: list[int] = []
        for scale, count in enumerate(reversed(self.arguments["groups"])):
            if scale:
                self._encoder_cell(f"encoder.{block}", f"enc_tower.{place}", True)
                place, block = place + 1, block + 1
            for _ in range(count):
                for cell in range(self.arguments["encoder_cells"]):
                    self._encoder_cell(f"encoder.{block}.{cell}", f"enc_tower.{place}", False)
                    place += 1
                block, seen = block + 1, seen + 1
                if seen < total:
                    combiners.append(place)
                    place += 1
        return combiners

    def _groups(self, combiners: Sequence[int]) -> None:
        place, group = 0, 0
        for scale, count in enumerate(self.arguments["groups"]):
            if scale:
                self._decoder_cell(f"rises.{scale - 1}", f"dec_tower.{place}", True)
                place += 1
            for _ in range(count):
                name = f"groups.{group}"
                for cell in range(self.arguments["decoder_cells"] if group else 0):
                    self._decoder_cell(f"{name}.cells.{cell}", f"dec_tower.{place}", False)
                    place += 1
                self._convolution(f"{name}.merger", f"dec_tower.{place}.conv")
                place += 1
                self._convolution(f"{name}.posterior_map", f"enc_sampler.{group}")
                if group:
                    self._convolution(f"{name}.prior_map", f"dec_sampler.{group - 1}.1")
                    self._convolution(f"{name}.combiner", f"enc_tower.{combiners[-group]}.conv")
                for flow in range(self.arguments["num_flows"]):
                    index = group * self.arguments["num_flows"] + flow
                    self._flow(f"{name}.flows.{flow}", f"nf_cells.{index}")
                group += 1

    def _put(self, own: str, name: str) -> None:
        value = self.source.take(name)
        if value is not None:
            self.tensors[own], self.names[own] = value, name

    def _convolution(self, own: str, name: str, has_bias: bool = True) -> None:
        self._put(f"{own}.parametrizations.weight.original", f"{name}.weight")
        self._put(f"{own}.parametrizations.weight.0.log_norm", f"{name}.log_weight_norm")
        if has_bias:
            self._put(f"{own}.bias", f"{name}.bias")

    def _plain_convolution(self, own: str, name: str) -> None:
        alias = f"{name}.weight_normalized"
        self.source.taken.add(f"{name}.weight")
        self._put(f"{own}.weight", alias if alias in self.source else f"{name}.weight")

    def _batch_norm(self, own: str, name: str) -> None:
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            self._put(f"{own}.{part}", f"{name}.{part}")

    def _excitation(self, own: str, name: str) -> None:
        if self.arguments["has_excitation"]:
            for layer, index in (("squeeze", 0), ("excite", 2)):
                self._put(f"{own}.excitation.{layer}.weight", f"{name}.se.se.{index}.weight")
                self._put(f"{own}.excitation.{layer}.bias", f"{name}.se.se.{index}.bias")

    def _encoder_cell(self, own: str, name: str, is_down: bool) -> None:
        for index in (0, 1):
            self._batch_norm(f"{own}.branch.{3 * index}", f"{name}._ops.{index}.bn_act")
            self._convolution(f"{own}.branch.{3 * index + 2}", f"{name}._ops.{index}.conv_0")
        self._excitation(own, name)
        for index in range(4 if is_down else 0):
            self._convolution(f"{own}.skip.parts.{index}", f"{name}.skip.conv_{index + 1}")

    def _decoder_cell(self, own: str, name: str, is_up: bool) -> None:
        first, inner = int(is_up), f"{name}._ops.0.conv"
        self._batch_norm(f"{own}.branch.{first}", f"{inner}.{first}.bn")
        for step, place in ((1, 1), (2, 4)):
            self._plain_convolution(f"{own}.branch.{first + place}", f"{inner}.{first + step}.conv.0")
            self._batch_norm(f"{own}.branch.{first + place + 1}", f"{inner}.{first + step}.conv.1")
        self._plain_convolution(f"{own}.branch.{first + 7}", f"{inner}.{first + 3}")
        self._batch_norm(f"{own}.branch.{first + 8}", f"{inner}.{first + 4}.bn")
        self._excitation(own, name)
        if is_up:
            self._convolution(f"{own}.skip.convolution", f"{name}.skip.1", has_bias=False)

    def _flow(self, own: str, name: str) -> None:
        for cell, part in ((1, "forth"), (2, "back")):
            inner = f"{name}.cell{cell}"
            self._convolution(f"{own}.{part}.first.convolution", f"{inner}.conv.convz.0", has_bias=False)
            self._convolution(f"{own}.{part}.depthwise.convolution", f"{inner}.conv.convz.2", has_bias=False)
            self._convolution(f"{own}.{part}.last.convolution", f"{inner}.mu.conv_0")
