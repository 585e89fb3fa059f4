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
from vaebm.checkpoint.published import ALIAS, Published, PublishedTensors, read_content, read_tensors, shown

if TYPE_CHECKING:
    from torch import Tensor

# More than any network that was published, and few enough to be counted.
MOST_PARTS, MOST_CHANNELS, LONGEST_TEXT = 200, 2**14, 1000
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
    values = content.get("args")
    values = vars(values) if isinstance(values, argparse.Namespace) else values
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{path} has no 'args': expected an NVAE's checkpoint.pt in the published layout")
    source = read_tensors(path, content, "state_dict")
    arguments = _vae_arguments(_Settings(path, values), source)
    translation = _Translation(source, arguments)
    translation.run()
    source.check_all_used()
    plain = {
        name: value for name, value in values.items() if isinstance(name, str) and _is_plain(name) and _is_plain(value)
    }
    return Published(arguments, translation.tensors, translation.names, path, plain, translation.spares)


def _is_plain(value: Any) -> bool:
    """Whether a value can be kept in a model folder: a number, or a text that can be written and isn't endless."""
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and value.isprintable()
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


class _Settings:
    """The arguments of the program that wrote a file; each is checked where it is read."""

    def __init__(self, path: Path, values: Mapping[Any, Any]) -> None:
        self.path, self.values = path, values

    def text(self, name: str, default: str) -> str:
        """Returns a text."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.path}: args.{name} is {shown(value)}: expected text")
        return value

    def flag(self, name: str) -> bool:
        """Returns whether something is on; it isn't where nothing is said of it."""
        value = self.values.get(name, False)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise CheckpointError(f"{self.path}: args.{name} is {shown(value)}: expected True or False")
        return bool(value)

    def number(self, name: str, default: int, least: int = 1, most: int = MOST_PARTS) -> int:
        """Returns a whole number in a range."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CheckpointError(
                f"{self.path}: args.{name} is {shown(value)}: expected a whole number from {least} to {most:,}"
            )
        return value


def _vae_arguments(settings: _Settings, source: PublishedTensors) -> dict[str, Any]:
    if settings.text("arch_instance", ARCHITECTURE) != ARCHITECTURE:
        raise CheckpointError(
            f"{source.path} is of the architecture {shown(settings.values['arch_instance'])}: expected "
            f"{ARCHITECTURE!r}, the published one"
        )
    stem = source.shape("stem.weight", "filters, channels, height, width")
    _check_pixels(settings, source, stem[1])
    arguments: dict[str, Any] = {
        "groups": _groups(settings),
        "latents": settings.number("num_latent_per_group", 20, most=MOST_CHANNELS),
        "encoder_width": settings.number("num_channels_enc", 32, most=MOST_CHANNELS),
        "decoder_width": settings.number("num_channels_dec", 32, most=MOST_CHANNELS),
        "encoder_cells": settings.number("num_cell_per_cond_enc", 1),
        "decoder_cells": settings.number("num_cell_per_cond_dec", 1),
        **_outer_arguments(settings),
        "num_flows": settings.number("num_nf", 0, least=0),
        "is_residual": settings.flag("res_dist"),
        "has_excitation": settings.flag("use_se"),
    }
    _check_size(source, arguments)
    top = source.shape("prior_ftr0", "channels, height, width")
    factor = 2 ** (arguments["outer_blocks"] + len(arguments["groups"]) - 1)
    # Widths first of all: they bound what the rest can ask for by what is stored.
    source.check_shape("prior_ftr0", (arguments["decoder_width"] * factor, *top[1:]))
    source.check_shape("stem.weight", (arguments["encoder_width"], stem[1], 3, 3))
    return {"image_shape": [stem[1], top[1] * factor, top[2] * factor], **arguments}


def _groups(settings: _Settings) -> list[int]:
    """Returns the number of groups of each scale, the coarsest first."""
    counts = [settings.number("num_groups_per_scale", 10)]
    is_adaptive, fewest = settings.flag("ada_groups"), settings.number("min_groups_per_scale", 1)
    for _ in range(settings.number("num_latent_scales", 1) - 1):
        counts.append(max(fewest, counts[-1] // 2) if is_adaptive else counts[-1])
    return counts[::-1]


def _outer_arguments(settings: _Settings) -> dict[str, int]:
    blocks = settings.number("num_preprocess_blocks", 2, least=0)
    outer = settings.number("num_postprocess_blocks", blocks, least=0)
    if blocks != outer:
        raise CheckpointError(
            f"{settings.path}: args.num_preprocess_blocks is {blocks}, but num_postprocess_blocks {outer}: expected as "
            "many, or images come out in another size than they go in"
        )
    least = 1 if blocks else 0
    inward = settings.number("num_preprocess_cells", 3, least=least)
    outward = settings.number("num_postprocess_cells", inward, least=least)
    different = outward if blocks and outward != inward else 0
    return {"outer_blocks": blocks, "outer_cells": max(1, inward), "outward_cells": different}


def _check_pixels(settings: _Settings, source: PublishedTensors, channels: int) -> None:
    name = "image_conditional.1.weight"
    maps = source.shape(name, "filters, channels, height, width")[0]
    only = "expected an NVAE with Gaussian pixels (num_mixture_dec 1), the only ones that are supported"
    if maps == channels:
        raise CheckpointError(
            f"{source.path} has Bernoulli pixels ({name} has {maps} filters, one for each channel), through which no "
            f"chain can run: {only}"
        )
    mixture = settings.number("num_mixture_dec", 10, most=MOST_CHANNELS)
    if mixture != 1:
        raise CheckpointError(
            f"{source.path} has pixels of a mixture of {mixture} logistics, through which no chain can run: {only}"
        )


def _check_size(source: PublishedTensors, arguments: Mapping[str, Any]) -> None:
    """Checks that a file has a tensor for each cell at least, before anything is counted out one by one."""
    inner = arguments["encoder_cells"] + arguments["decoder_cells"] + arguments["num_flows"]
    outer = arguments["outer_cells"] + (arguments["outward_cells"] or arguments["outer_cells"])
    cells = sum(arguments["groups"]) * inner + arguments["outer_blocks"] * outer
    if cells > len(source.tensors):
        raise CheckpointError(
            f"{source.path}: its settings describe a network of {cells:,} cells, but it has {len(source.tensors):,} "
            "tensors: expected several for each cell"
        )


class _Translation:
    """Turns the names of a published NVAE into those of this package."""

    def __init__(self, source: PublishedTensors, arguments: Mapping[str, Any]) -> None:
        self.source, self.arguments = source, arguments
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}
        self.spares: dict[str, tuple[str, Tensor]] = {}

    def run(self) -> None:
        """Fills ``tensors`` and ``names``."""
        self._put("start", "prior_ftr0")
        self._convolution("stem", "stem")
        self._convolution("peak", "enc0.1")
        self._convolution("pixels", "image_conditional.1")
        num_blocks, inward = self.arguments["outer_blocks"], self.arguments["outer_cells"]
        for index in range(num_blocks * inward):
            self._encoder_cell(f"inward.{index}", f"pre_process.{index}", (index + 1) % inward == 0)
        outward = self.arguments["outward_cells"] or inward
        for index in range(num_blocks * outward):
            self._decoder_cell(f"outward.{index}", f"post_process.{index}", index % outward == 0)
        combiners = self._encoder()
        self._groups(combiners)

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
        own = f"{own}.weight"
        self._put(own, f"{name}.weight")
        alias = f"{name}{ALIAS}"
        if alias in self.source:
            if own in self.tensors:
                self.spares[own] = (f"{name}.weight", self.tensors[own])
            self._put(own, alias)

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
