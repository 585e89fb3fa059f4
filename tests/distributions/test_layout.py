from __future__ import annotations

import pytest
import torch

from vaebm.distributions import NoiseLayout

LAYOUTS = {
    "one group": NoiseLayout(((5,),)),
    "groups of maps": NoiseLayout(((3,), (2, 2, 2), (1, 4, 4))),
    "with image noise": NoiseLayout(((3,), (2, 2, 2)), (3, 4, 5)),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_split_then_join_gives_the_noise_back(layout: NoiseLayout) -> None:
    noise = torch.arange(2.0 * layout.size).view(2, layout.size)
    parts = layout.split(noise)
    shapes = [*layout.latent_shapes, *([layout.image_shape] if layout.image_shape else [])]
    assert [tuple(part.shape) for part in parts] == [(2, *shape) for shape in shapes]
    assert torch.equal(layout.join(parts), noise)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_parts_are_views(layout: NoiseLayout) -> None:
    noise = torch.zeros(2, layout.size)
    for number, part in enumerate(layout.split(noise), start=1):
        part.fill_(number)
    expected = [number for number, part in enumerate(layout.split(noise), start=1) for _ in range(part[0].numel())]
    assert noise[0].tolist() == expected
    assert torch.equal(noise[0], noise[1])


def test_sizes_and_order() -> None:
    layout = LAYOUTS["with image noise"]
    assert (layout.latent_size, layout.size) == (11, 71)
    maps = layout.split(torch.arange(71.0)[None])[1]
    assert maps.flatten().tolist() == list(range(3, 11))
    assert maps[0, 1, 0].tolist() == [7, 8]


def test_no_chains_have_empty_parts() -> None:
    assert [tuple(part.shape) for part in LAYOUTS["groups of maps"].split(torch.zeros(0, 27))] == [
        (0, 3),
        (0, 2, 2, 2),
        (0, 1, 4, 4),
    ]


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,), (1, 5, 1)])
def test_noise_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 5\)"):
        LAYOUTS["one group"].split(torch.zeros(shape))
