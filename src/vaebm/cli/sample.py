"""``vaebm sample``: images of a trained model, or a chain at work."""

from __future__ import annotations

import io
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from vaebm.cli.parsing import Parser, UsageError, natural, positive, positive_number


def _parser() -> Parser:
    parser = Parser("sample", "Draws images of a trained VAEBM.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument("-n", "--num-images", type=positive, default=64, help="number of images (default 64; 25 for a chain)")
    parser.add_argument("--output", type=Path, help="where to: a picture (.png) or an array (.npz, uint8 N, C, H, W); default MODEL.png")
    parser.add_argument("--chain", type=Path, help="instead, an animated .gif of chains: images and energy, step by step")
    parser.add_argument("--num-steps", type=natural, help="Langevin steps (default: stored with the model; 0 = the VAE)")
    parser.add_argument("--step-size", type=positive_number, help="step size η (default: stored with the model)")
    parser.add_argument("--seed", type=natural, default=0, help="seed of all randomness (default 0)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    output = _check_output(options)
    import torch

    from vaebm.applications import generate
    from vaebm.checkpoint import write_bytes
    from vaebm.data import to_uint8
    from vaebm.plots import image_grid, png_bytes
    from vaebm.recipes import read_model

    loaded = read_model(options.model)
    generator = torch.Generator().manual_seed(options.seed)
    num_steps = loaded.model.sampling["num_steps"] if options.num_steps is None else options.num_steps
    step_size = options.step_size or loaded.model.sampling["step_size"]
    if options.chain:
        data = _chain(loaded.model, options.num_images, num_steps, step_size, generator)
    else:
        images = generate(loaded.model, options.num_images, num_steps=num_steps, step_size=step_size, generator=generator)
        pixels = to_uint8(images)
        columns = math.ceil(math.sqrt(len(pixels)))
        data = _npz(pixels) if output.suffix == ".npz" else png_bytes(image_grid(pixels, columns, scale=max(1, 56 // pixels.shape[3])))
    write_bytes(output, data)
    print(f"{output}: {options.num_images} images, {num_steps} Langevin steps of size {step_size}, seed {options.seed}")
    return 0


def _check_output(options: Namespace) -> Path:
    if options.chain and options.output:
        raise UsageError("--chain and --output exclude each other: give one")
    path = Path(options.chain or options.output or f"{Path(options.model).name}.png")
    allowed = (".gif",) if options.chain else (".png", ".npz")
    if path.suffix.lower() not in allowed:
        raise UsageError(f"{path} ends with {path.suffix!r}: expected {' or '.join(allowed)}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: make it first")
    if options.chain and options.num_images == 64:
        options.num_images = 25
    return path


def _npz(pixels: object) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.asarray(pixels))
    return buffer.getvalue()


def _chain(model: object, num_images: int, num_steps: int, step_size: float, generator: object) -> bytes:
    from vaebm.cli.evaluation import record_chain
    from vaebm.plots import chain_frames, gif_bytes

    record = record_chain(model, num_images, num_steps, step_size, generator)  # type: ignore[arg-type]
    return gif_bytes(chain_frames(record.images, record.energies, record.steps), 120, last_milliseconds=2500)
