import copy

import pytest
import torch
from torch import Tensor, nn

from vaebm.nn.depthwise import DepthwiseConv2d


def gradients(module: nn.Module, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = module(images)
    (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    found = [output.detach(), images.grad, next(module.parameters()).grad]
    return [value.float() for value in found if value is not None]


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_bfloat16_it_is_the_convolution_of_rounded_numbers(kernel_size: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    module = DepthwiseConv2d(6, kernel_size)
    images = torch.randn(3, 6, 9, 7).contiguous(memory_format=layout)
    rounded = copy.deepcopy(module)
    rounded.weight.data = rounded.weight.detach().bfloat16().float()
    expected = gradients(rounded, images.bfloat16().float(), torch.float32)
    found = gradients(module, images, torch.bfloat16)
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 0.01 * other.abs().max()


def test_the_gradient_of_the_weight_is_no_worse_than_the_librarys() -> None:
    torch.manual_seed(0)
    module, library = DepthwiseConv2d(8, 5), nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    library.load_state_dict(module.state_dict())
    images = torch.randn(16, 8, 16, 16)
    exact = gradients(copy.deepcopy(library), images, torch.float32)[2]
    errors = [(gradients(each, images, torch.bfloat16)[2] - exact).norm() for each in (module, library)]
    assert errors[0] <= 1.05 * errors[1]


def test_elsewhere_it_is_a_plain_convolution() -> None:
    torch.manual_seed(0)
    module, plain = DepthwiseConv2d(4, 5).double(), nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False).double()
    plain.load_state_dict(module.state_dict())
    images = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(module(images), plain(images))
    assert list(module.state_dict()) == ["weight"]
    torch.autograd.gradcheck(module, images.requires_grad_())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert module.float()(images.float()).dtype == torch.bfloat16


def test_a_frozen_weight_gets_no_gradient_and_a_frozen_input_neither() -> None:
    module = DepthwiseConv2d(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        module(torch.randn(2, 4, 8, 8)).float().sum().backward()
    assert module.weight.grad is not None
    frozen, images = DepthwiseConv2d(4, 3).requires_grad_(False), torch.randn(2, 4, 8, 8).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        frozen(images).float().sum().backward()
    assert images.grad is not None
    assert frozen.weight.grad is None
