"""``vaebm sample``: images of a trained model, or a chain at work."""

from __future__ import annotations

import io
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import Parser, UsageError, add_chains, check_folder_of, given_chains, positive, seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebm.distributed import Engine

NUM_IMAGES, NUM_CHAINS, GRID_PIXELS = 64, 25, 56
FRAME_MILLISECONDS, LAST_MILLISECONDS, MOST_FRAMES = 120, 2500, 150


def _parser() -> Parser:
    parser = Parser("sample", "Draws images of a trained VAEBM.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument(
        "-n",
        "--num-images",
        type=positive,
        metavar="N",
        help=f"number of images (default {NUM_IMAGES}; {NUM_CHAINS} for a chain)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to: a picture (.png) or an array (.npz, uint8 N, C, H, W); default MODEL.png",
    )
    parser.add_argument(
        "--chain",
        type=Path,
        metavar="FILE",
        help="instead, an animated .gif of chains: images and energy, step by step",
    )
    add_chains(parser)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of all randomness (default 0)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    output = _output(options)
    import torch

    from vaebm.checkpoint import CheckpointError, write_bytes
    from vaebm.data import DataError
    from vaebm.distributed import launched_engine
    from vaebm.recipes import read_model
    from vaebm.recipes.config import SamplingConfig

    loaded = read_model(options.model)
    if loaded.model.image_shape[0] not in (1, 3):
        raise UsageError(f"{loaded.folder} is a model of points: its report shows them; measure it by vaebm evaluate")
    loaded.model.sampling.update(given_chains(options))
    num_steps, step_size = (loaded.model.sampling.get(name) for name in ("num_steps", "step_size"))
    if num_steps is None or step_size is None:
        raise CheckpointError(f"{loaded.folder} stores no sampling defaults: give --num-steps and --step-size")
    count = options.num_images or (NUM_CHAINS if options.chain else NUM_IMAGES)
    generator, engine = torch.Generator().manual_seed(options.seed), launched_engine()
    try:
        if options.chain:
            data = _chain(loaded.model, count, generator)
        else:
            data = _images(loaded.model, count, generator, output.suffix.lower(), engine)
    except DataError as error:
        raise UsageError(f"the chains diverged at step size {step_size}: choose a smaller --step-size") from error
    if engine is not None and not engine.is_main:
        return 0
    write_bytes(output, data)
    print(f"{output}: {count} images, {SamplingConfig(**loaded.model.sampling).words}, seed {options.seed}")
    return 0


def _output(options: Namespace) -> Path:
    if options.chain and options.output:
        raise UsageError("--chain and --output exclude each other: give one")
    path: Path = options.chain or options.output or Path(f"{Path(options.model).resolve().name}.png")
    allowed = (".gif",) if options.chain else (".png", ".npz")
    if path.suffix.lower() not in allowed:
        raise UsageError(f"{path} ends with {path.suffix!r}: expected {' or '.join(allowed)}")
    check_folder_of(path)
    return path


def _images(model: Any, count: int, generator: Any, suffix: str, engine: Engine | None) -> bytes:
    from vaebm.applications import generate
    from vaebm.data import to_uint8
    from vaebm.plots import image_grid, png_bytes

    images = generate(model, count, generator=generator, engine=engine)
    pixels = to_uint8(images)
    if suffix == ".npz":
        return _npz(pixels)
    columns, scale = math.ceil(math.sqrt(count)), max(1, GRID_PIXELS // pixels.shape[3])
    return png_bytes(image_grid(pixels, columns, scale=scale))


def _npz(pixels: NDArray[Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=pixels)
    return buffer.getvalue()


def _chain(model: Any, count: int, generator: Any) -> bytes:
    from vaebm.cli.chain_looks import record_chain
    from vaebm.plots import chain_frames, gif_bytes
    from vaebm.recipes.config import SamplingConfig

    sampling = SamplingConfig(**model.sampling)
    num_steps = sampling.num_steps
    every = max(1, math.ceil(num_steps / MOST_FRAMES))
    record = record_chain(model, count, num_steps, sampling.kernel, generator, every)
    frames = chain_frames(record.images, record.energies, record.steps)
    return gif_bytes(frames, FRAME_MILLISECONDS, last_milliseconds=LAST_MILLISECONDS)
