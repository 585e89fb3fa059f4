r"""Cells of NVAE's decoder in the form in which chains run them: frozen, folded, with a backward pass of their own.

In evaluation mode a batch norm is an affine map of each channel, so that it folds into the convolution beside it;
weight normalisation folds into the weights. A decoder cell is then

    u = A s + a,    v = D silu(u) + d,    w = P silu(v) + p,    out = skip(s) + w · gate(mean w),

with 1×1 convolutions A and P, a depthwise convolution D, and the factor 0.1 of the branch within P and p. Maps that
don't mix pixels commute with nearest up-sampling, so an up cell computes silu(A s + a) at the lower resolution.

Backwards only s has a gradient. With transposed 1×1 and flipped depthwise kernels it takes the same convolutions as
forwards, and of all maps only u, v and w are kept.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.cells import BRANCH_SCALE, DecoderCell

__all__ = ["Convolution", "FoldedCell", "Transport", "plain_convolution"]


CONSTANTS = (
    "expand", "expand_bias", "depthwise", "depthwise_bias", "project", "project_bias",
    "expand_back", "depthwise_back", "project_back",
)  # fmt: skip
GATE = ("squeeze", "squeeze_bias", "excite", "excite_bias")


class Affine(NamedTuple):
    """The map x ↦ x · scale + shift of each channel, both (C,)."""

    scale: Tensor
    shift: Tensor


def affine_of(norm: nn.BatchNorm2d) -> Affine:
    """Returns what a batch norm does in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return Affine(scale, norm.bias - norm.running_mean * scale)


class Convolution(nn.Module):
    """A convolution of stride one that keeps the size, as a constant.

    Arguments:
        weight: (out_channels, in_channels, k, k), k odd.
        bias: (out_channels,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return functional.conv2d(hidden, self.weight, self.bias, padding=self.weight.shape[2] // 2)


def plain_convolution(layer: Any, factor: float = 1.0) -> Convolution:
    """Returns a convolution, whose weights may be reparameterised, as a constant; its weights are multiplied."""
    return Convolution(layer.weight * factor, layer.bias)


class FoldedCell(nn.Module):
    """A ``DecoderCell`` in evaluation mode, as a constant: same output, same gradient by its input, less work.

    Arguments:
        cell: The cell; its tensors are copied.

    Example:
        >>> cell = DecoderCell(8, 4, up=True).eval()
        >>> images = torch.rand(2, 8, 4, 4)
        >>> torch.allclose(FoldedCell(cell)(images), cell(images), atol=1e-5)
        True
    """

    def __init__(self, cell: DecoderCell) -> None:
        super().__init__()
        layers: list[Any] = [layer for layer in cell.branch if isinstance(layer, nn.BatchNorm2d | nn.Conv2d)]
        before, expand, inner, depthwise, outer, project, after = layers
        self.is_up = isinstance(cell.branch[0], nn.UpsamplingNearest2d)
        with torch.no_grad():
            entering, opened = affine_of(before), affine_of(inner)
            spread, leaving = affine_of(outer), affine_of(after)
            weight = expand.weight.flatten(1)
            folded = (
                (weight * entering.scale * opened.scale[:, None])[:, :, None, None],
                (weight @ entering.shift) * opened.scale + opened.shift,
                depthwise.weight * spread.scale[:, None, None, None],
                spread.shift,
                project.weight * (leaving.scale * BRANCH_SCALE)[:, None, None, None],
                leaving.shift * BRANCH_SCALE,
            )
        expanding, _, deep, _, projecting, _ = folded
        backwards = (expanding.transpose(0, 1), deep.flip(2, 3), projecting.transpose(0, 1))
        for name, value in zip(CONSTANTS, (*folded, *backwards), strict=True):
            self.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        gate: Any = cell.excitation
        self.has_gate = not isinstance(gate, nn.Identity)
        if self.has_gate:
            # The branch carries the factor 0.1 already.
            squeezing = gate.squeeze.weight / BRANCH_SCALE
            for name, value in zip(
                GATE, (squeezing, gate.squeeze.bias, gate.excite.weight, gate.excite.bias), strict=True
            ):
                self.register_buffer(name, value.detach().clone())
        self.skip = plain_convolution(cell.skip.convolution) if self.is_up else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W), or to twice the resolution."""
        skip = hidden
        if self.skip is not None:
            # The 1×1 convolution first, where there are fewer pixels: it commutes with resizing.
            skip = functional.interpolate(self.skip(hidden), scale_factor=2, mode="bilinear", align_corners=True)
        constants = [getattr(self, name) for name in (*CONSTANTS, *(GATE if self.has_gate else ()))]
        result: Tensor = _Cell.apply(hidden, skip, self.is_up, *constants)  # type: ignore[no-untyped-call]
        return result


class _Cell(torch.autograd.Function):
    """skip + w · gate(mean w) with w = P silu(D silu(A s + a) + d) + p, with gradients by s and the skip alone."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, skip: Tensor, is_up: bool, *constants: Tensor) -> Tensor:
        expand, expand_bias, depthwise, depthwise_bias, project, project_bias = constants[:6]
        groups, padding = len(depthwise), depthwise.shape[2] // 2
        opened = functional.conv2d(hidden, expand, expand_bias)
        active = functional.silu(opened)
        if is_up:
            active = functional.interpolate(active, scale_factor=2, mode="nearest")
        spread = functional.conv2d(active, depthwise, depthwise_bias, padding=padding, groups=groups)
        torch.ops.aten.silu.out(spread, out=active)
        branch = functional.conv2d(active, project, project_bias)
        ctx.is_up, ctx.num_constants = is_up, len(constants)
        if len(constants) == len(CONSTANTS):
            ctx.save_for_backward(opened, spread, *constants[6:])
            return skip + branch
        squeeze, squeeze_bias, excite, excite_bias = constants[len(CONSTANTS) :]
        squeezed = functional.linear(branch.mean((2, 3)), squeeze, squeeze_bias).relu_()
        gate = functional.linear(squeezed, excite, excite_bias).sigmoid_()
        ctx.save_for_backward(opened, spread, *constants[6 : len(CONSTANTS)], branch, squeezed, gate, squeeze, excite)
        return torch.addcmul(skip, branch, gate[:, :, None, None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        opened, spread, expand_back, depthwise_back, project_back, *gated = ctx.saved_tensors
        groups, padding = len(depthwise_back), depthwise_back.shape[2] // 2
        gradient = functional.conv2d(_through_gate(gradients[0], *gated), project_back)
        torch.ops.aten.silu_backward.grad_input(gradient, spread, grad_input=gradient)
        gradient = functional.conv2d(gradient, depthwise_back, padding=padding, groups=groups)
        if ctx.is_up:
            gradient = functional.avg_pool2d(gradient, 2, divisor_override=1)
        torch.ops.aten.silu_backward.grad_input(gradient, opened, grad_input=gradient)
        return functional.conv2d(gradient, expand_back), gradients[0], *[None] * (1 + ctx.num_constants)


def _through_gate(gradient: Tensor, *gated: Tensor) -> Tensor:
    """Returns the gradient by the branch of one by branch · gate(mean branch); without a gate it is the same one."""
    if not gated:
        return gradient
    branch, squeezed, gate, squeeze, excite = gated
    by_gate = (gradient * branch).sum((2, 3)) * gate * (1 - gate)
    by_mean = ((by_gate @ excite) * (squeezed > 0)) @ squeeze / (branch.shape[2] * branch.shape[3])
    return torch.addcmul(by_mean[:, :, None, None], gradient, gate[:, :, None, None])


class Transport(torch.autograd.Function):
    """Noise through NVAE's Gaussian of raw parameters: latents μ + σ · noise, and σ.

    With r = limit · tanh(raw/limit) for mean and log-scale, μ = r_1 and σ = exp(r_2) + least.
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor, noise: Tensor, limit: float, least: float) -> tuple[Tensor, Tensor]:
        squashed = torch.tanh(raw.to(noise.dtype) / limit)
        mean, log_scale = squashed.chunk(2, 1)
        grown = (limit * log_scale).exp()
        scale = grown + least
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(squashed, noise, grown)
        ctx.limit, ctx.least, ctx.dtype = limit, least, raw.dtype
        return torch.addcmul(scale * noise, mean, mean.new_tensor(limit)), scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        squashed, noise, grown = ctx.saved_tensors
        latent, scale = gradients
        zero = torch.zeros_like(grown)
        latent = zero if latent is None else latent
        by_scale = latent * noise if scale is None else torch.addcmul(scale, latent, noise)
        raw = torch.cat([latent, by_scale * grown], 1) * (1 - squashed.square())
        return raw.to(ctx.dtype), latent * (grown + ctx.least), None, None
