"""The chain at work: a film of all chains, the energy beside it, and some chains step by step.

The film is one tall picture, frame under frame, that slides behind a window. The style sheet plays it; the script,
where it may run, hands it to a slider.
"""

import json
from html import escape

import numpy as np

from vaebm.plots import Axis, Series, cursor_shifts, image_grid, line_chart
from vaebm.plots.arrays import FloatArray, IntArray, UInt8Array
from vaebm.reports.content import ReportContent
from vaebm.reports.markup import figure, paragraphs, png_image
from vaebm.reports.tables import format_value

_MOST_FRAMES = 48
_TALLEST_FILM = 8000
_MOST_CHAINS = 24
_SECONDS_A_FRAME = 0.14
_PAUSE = 0.2


def _columns(width: int) -> int:
    return 6 if width <= 40 else 4 if width <= 80 else 3


def _chosen(count: int, most: int) -> list[int]:
    """Return at most so many indices, evenly spread, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, max(most, 2)))})


def _film(images: UInt8Array) -> tuple[UInt8Array, list[int]]:
    columns = _columns(images.shape[-1])
    rows = max(1, min(_MOST_CHAINS, images.shape[1]) // columns)
    height = rows * (images.shape[-2] + 1) + 1
    scale = 2 if images.shape[-1] <= 16 else 1
    indices = _chosen(len(images), min(_MOST_FRAMES, _TALLEST_FILM // (height * scale)))
    shown = images[indices, : rows * columns]
    return np.concatenate([image_grid(frame, columns, padding=scale, scale=scale) for frame in shown]), indices


def _keyframes(name: str, moves: list[str]) -> str:
    """Return an animation that jumps from move to move and rests at the last."""
    stops = [f"{100 * (1 - _PAUSE) * index / len(moves):.2f}%{{transform:{move}}}" for index, move in enumerate(moves)]
    return f"@keyframes {name}{{{''.join(stops)}100%{{transform:{moves[-1]}}}}}"


def _animation(num_frames: int, shifts: FloatArray) -> str:
    seconds = num_frames * _SECONDS_A_FRAME / (1 - _PAUSE)
    film = [f"translateY({-100 * index / num_frames:.4f}%)" for index in range(num_frames)]
    cursor = [f"translateX({shift:.1f}px)" for shift in shifts]
    run = f"{seconds:.1f}s step-end infinite"
    return (
        f"<style>{_keyframes('film', film)}{_keyframes('cursor', cursor)}"
        f".film img{{transform:{film[-1]};animation:film {run}}}"
        f".cursor{{transform:{cursor[-1]};animation:cursor {run}}}"
        "@media (prefers-reduced-motion:reduce),print{.film img,.cursor{animation:none}}</style>"
    )


def _energy_curve(energies: FloatArray, steps: IntArray) -> str:
    low, high = np.quantile(energies, [0.1, 0.9], axis=1)
    curve = Series(
        "mean; band: the middle 80 % of the chains", steps.astype(float), energies.mean(axis=1), low=low, high=high
    )
    return line_chart("Energy of the chains", [curve], Axis("Langevin step"), cursor=True)


def _player(images: UInt8Array, energies: FloatArray, steps: IntArray) -> str:
    film, indices = _film(images)
    shifts = cursor_shifts(steps.astype(float))[indices]
    count = len(indices)
    means = energies.mean(axis=1)
    frames = [
        [int(steps[index]), format_value(float(means[index])), round(float(shift), 1)]
        for index, shift in zip(indices, shifts, strict=True)
    ]
    alt = f"The images of the chains, step {steps[0]} to {steps[-1]}"
    window = f"aspect-ratio:{film.shape[1]}/{film.shape[0] // count}"
    slider = f'<input type="range" min="0" max="{count - 1}" value="{count - 1}" aria-label="chain step">'
    controls = f'<div class="controls" hidden><button type="button">Play</button>{slider}<output></output></div>'
    return (
        _animation(count, shifts)
        + f'<div class="player" data-frames="{escape(json.dumps(frames))}">'
        + f'<div class="film" style="{window}">{png_image(film, alt, "pixels")}</div>'
        + figure(_energy_curve(energies, steps))
        + controls
        + "</div>"
    )


def _strip(images: UInt8Array, steps: IntArray) -> str:
    count = min(len(images), 10 if images.shape[-1] <= 40 else 6)
    # Most happens in the first steps, so they are shown more densely.
    indices = sorted({round((len(images) - 1) * place**1.7) for place in np.linspace(0, 1, count)})
    chains = min(5, images.shape[1])
    cells = images[indices, :chains].swapaxes(0, 1).reshape(-1, *images.shape[2:])
    scale = max(1, 1000 // (len(indices) * images.shape[-1]))
    picture = image_grid(cells, len(indices), max(2, scale // 2), scale)
    labels = "".join(f"<li>{int(steps[index])}</li>" for index in indices)
    alt = f"{chains} chains from step {steps[0]} to step {steps[-1]}, left to right"
    body = f'{png_image(picture, alt)}<ul class="strip-labels" aria-hidden="true">{labels}</ul>'
    caption = "One chain a row, from the VAE’s image on the left to the VAEBM’s on the right; below, the step."
    return figure(body, caption, "strip")


def chain_section(content: ReportContent) -> str:
    """Return the section on the chain, without its heading.

    Arguments:
        content: a report with `chain_images`, `chain_energies` and `chain_steps`.

    Returns:
        HTML; "" where there is no chain.
    """
    if content.chain_images is None or content.chain_energies is None or content.chain_steps is None:
        return ""
    images, energies, steps = content.chain_images, content.chain_energies, content.chain_steps
    start, end = (format_value(float(energies[index].mean())) for index in (0, -1))
    text = (
        "A chain begins at standard-normal noise, that is at a sample of the VAE, and follows Langevin dynamics in the "
        f"space of that noise. Between step {steps[0]} and step {steps[-1]} the mean energy of these {images.shape[1]} "
        f"chains goes from {start} to {end}; low energy means likely."
    )
    return paragraphs(text.replace(" -", " −")) + _player(images, energies, steps) + _strip(images, steps)
