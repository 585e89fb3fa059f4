"""The flows of NVAE: their order, their volume, and that masks hold whatever the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.nn import spectral_norms, spectral_vectors
from vaebm.nn.autoregressive import Flow, FlowPair


def jacobian(flow: torch.nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """Returns the Jacobian at a random place, in the order of rows, columns and channels."""
    channels, height, width = shape
    size = channels * height * width
    place = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.autograd.functional.jacobian(flow, place).reshape(*shape, *shape)
    return found.permute(1, 2, 0, 4, 5, 3).reshape(size, size)


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 3, 5)])
def test_one_flow_is_triangular_with_ones(shape: tuple[int, int, int], is_reversed: bool) -> None:
    torch.manual_seed(1)
    found = jacobian(Flow(shape[0], is_reversed).double(), shape)
    assert torch.equal(found.diagonal(), torch.ones(len(found), dtype=torch.float64))
    if is_reversed:
        # Only space is reversed: pixels from the last to the first, channels as they are.
        order = torch.arange(len(found)).view(-1, shape[0]).flip(0).flatten()
        found = found[order][:, order]
    assert not found.triu(1).any()
    assert found.tril(-1).count_nonzero() > 0.4 * len(found) * (len(found) - 1) / 2


def test_a_pair_keeps_volume_and_sees_everything() -> None:
    torch.manual_seed(1)
    found = jacobian(FlowPair(2).double(), (2, 3, 3))
    assert float(found.det()) == pytest.approx(1, abs=1e-10)
    assert found.triu(1).any()
    assert found.tril(-1).any()


def test_masked_weights_do_not_count_in_the_norm() -> None:
    torch.manual_seed(1)
    flow = Flow(2, False).double()
    latent = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    before = flow(latent)
    with torch.no_grad():
        for layer in (flow.first, flow.depthwise, flow.last):
            layer.convolution.parametrizations.weight.original.add_(100 * (1 - layer.mask))
    assert torch.equal(flow(latent), before)


def test_the_penalty_sees_the_weights_that_are_used() -> None:
    torch.manual_seed(1)
    flow = Flow(2, False)
    norms = spectral_norms(flow, spectral_vectors(flow, torch.Generator().manual_seed(0)), num_iterations=200)
    layers = [flow.first, flow.depthwise, flow.last]
    exact = [torch.linalg.matrix_norm((layer.convolution.weight * layer.mask).flatten(1), ord=2) for layer in layers]
    assert torch.allclose(norms.values, torch.stack(exact), rtol=1e-3)
    norms.values.sum().backward()
    for layer in layers:
        gradient = layer.convolution.parametrizations.weight.original.grad
        assert not gradient[layer.mask == 0].any()
        assert gradient[layer.mask == 1].any()
