"""``vaebm import``: a published checkpoint becomes a model folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.cli.parsing import Parser, UsageError

if TYPE_CHECKING:
    from vaebm.recipes import Imported

LICENSE = (
    "The weights keep the licence of the file that they come from; those of the authors' releases are for "
    "non-commercial use."
)


def _parser() -> Parser:
    parser = Parser(
        "import",
        "Turns an NVAE with Gaussian pixels, in the published layout, into a model folder. No file is executed.",
    )
    parser.add_argument("checkpoint", type=Path, help="the NVAE's checkpoint.pt")
    parser.add_argument(
        "--energy", type=Path, metavar="FILE", help="the energy network's file (default: E(x) = 0, the VAE alone)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="the model folder to make; a new or an empty one"
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    output = Path(os.path.expanduser(options.output))
    _check_target(output)

    from vaebm.recipes import import_published, save

    found = import_published(options.checkpoint, options.energy)
    details = {"imported": {"file": options.checkpoint.name, "settings": found.settings}}
    save(found.model, output, card=_card(found, options.checkpoint, options.energy, output), details=details)
    for note in found.notes:
        print(f"note: {note}")
    print(_told(found, output))
    return 0


def _check_target(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} is there already and not an empty folder: name a new one")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}: make it first")


def _counts(found: Imported) -> dict[str, int]:
    parts = {"VAE": found.model.vae, "energy": found.model.energy}
    return {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()}


def _told(found: Imported, output: Path) -> str:
    channels, height, width = found.model.image_shape
    counts = _counts(found)
    groups = len(found.model.noise_layout.latent_shapes)
    energy = f"energy network {counts['energy']:,} parameters" if found.has_energy else "E(x) = 0"
    return (
        f"{output}: images of {channels}x{height}x{width}; NVAE {counts['VAE']:,} parameters, {groups} groups, "
        f"{found.model.noise_layout.latent_size:,} latents; {energy}; {found.model.sampling['num_steps']} Langevin "
        f"steps of {found.model.sampling['step_size']:g}"
    )


def _card(found: Imported, checkpoint: Path, energy: Path | None, output: Path) -> str:
    from vaebm.reports import CardContent, model_card

    channels, height, width = found.model.image_shape
    files = f"{checkpoint.name}{f' and {energy.name}' if energy else ''}"
    missing = "" if found.has_energy else " There is no energy network: E(x) = 0, so it is the VAE."
    dataset = " ".join(str(found.settings.get("dataset", "an unknown data set")).split())
    return model_card(
        CardContent(
            name=output.name,
            summary=f"Imported from {files}.{missing} {LICENSE}",
            data=f"Whatever the file was trained on; it names {dataset}.",
            license="other",
            image_shape=(channels, height, width),
            num_steps=found.model.sampling["num_steps"],
            step_size=found.model.sampling["step_size"],
            num_parameters=_counts(found),
            config={"images": vars(found.model.image_fields)},
            provenance={name: value for name, value in found.settings.items() if name in ("dataset", "epochs", "seed")},
        )
    )
