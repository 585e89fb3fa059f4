"""A stage 2 that seems to diverge."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vaebm.training import energy_step


def spoil(monkeypatch: pytest.MonkeyPatch, module: str, iteration: int) -> None:
    """Has stage 2 tell of a loss that is no number, at the first time of an iteration."""
    left = {iteration}

    def spoiling(*arguments: Any, **settings: Any) -> Any:
        step = energy_step(*arguments, **settings)

        def spoilt(state: Any, images: Any) -> Any:
            progress = step(state, images)
            if progress.state.iteration not in left:
                return progress
            left.remove(progress.state.iteration)
            return progress._replace(figures={**progress.figures, "loss": math.nan})

        return spoilt

    monkeypatch.setattr(f"{module}.energy_step", spoiling)
