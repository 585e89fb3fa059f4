"""``vaebm export``: a scorer as one ONNX file, with all that a program in another language must know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import Parser, UsageError, share

if TYPE_CHECKING:
    from vaebm.applications import Scorer, ScoringNoise
    from vaebm.recipes import LoadedModel

GRAPH, DESCRIPTION = "scorer.onnx", "scorer.json"
TOLERANCE = 1e-4
NUM_CHECKED = 16


def _parser() -> Parser:
    parser = Parser("export", "Writes a scorer of images as an ONNX graph (extra: export).")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument(
        "--onnx",
        type=Path,
        required=True,
        metavar="PATH",
        help=f"a .onnx file to make, or a folder to make, with {GRAPH} and {DESCRIPTION}",
    )
    parser.add_argument(
        "--false-positive-rate",
        type=share,
        metavar="SHARE",
        help="share of normal images that may be taken for outliers (default: the model's)",
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    target = Path(os.path.expanduser(options.onnx))
    _check_target(target)
    _check_extra()

    import torch

    from vaebm.applications import Scorer, draw_scoring_noise
    from vaebm.applications.onnx_graph import to_onnx
    from vaebm.checkpoint.json_text import to_text
    from vaebm.cli.decision import read_decider, score_notes

    decider = read_decider(options.model, options.false_positive_rate)
    loaded, calibration = decider.loaded, decider.calibration
    scores = torch.tensor(calibration["outlier_scores"], dtype=torch.float64)
    scorer = Scorer(loaded.model, scores, decider.rate)
    generator = torch.Generator().manual_seed(calibration["seed"])
    noise = draw_scoring_noise(scorer.model, calibration["num_posterior_samples"], generator)
    text = to_text(_describe(options.model, loaded, scorer), indent=2)
    try:
        graph = to_onnx(scorer, noise, text)
    except NotImplementedError as error:
        raise UsageError(f"{loaded.folder} can't be exported ({error})") from error
    difference = _check_graph(graph, scorer, noise)
    _write(target, graph, text)
    for note in score_notes(loaded.model):
        print(note)
    rate, least = scorer.false_positive_rate, float(scorer.threshold)
    print(f"{target}: outliers above a score of {least:.4f}, at a false-positive rate of {rate:.4g}")
    print(f"run by onnxruntime on {2 * NUM_CHECKED} images: energy and ELBO within {difference:.1g} of torch's")
    return 0


def _check_target(target: Path) -> None:
    is_file = target.suffix.lower() == ".onnx"
    if is_file and target.exists():
        raise UsageError(f"--onnx {target} is there already: name another file, or remove it")
    if not is_file and target.exists() and not target.is_dir():
        raise UsageError(f"--onnx {target} is a file: expected a .onnx file to make, or a folder")
    if not is_file and target.is_dir() and any(target.iterdir()):
        raise UsageError(f"--onnx {target} is a folder that isn't empty: name a new one, or a .onnx file")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}: make it first")


def _check_extra() -> None:
    from vaebm.recipes import ExtraError

    if any(find_spec(package) is None for package in ("onnx", "onnxruntime")):
        raise ExtraError("export", "ONNX graphs")


def _check_graph(graph: bytes, scorer: Scorer, noise: ScoringNoise) -> float:
    """Runs the graph on images of the VAE and on noise, and returns the largest difference to torch."""
    import onnxruntime
    import torch

    from vaebm.applications.onnx_graph import OUTPUTS
    from vaebm.data import to_uint8

    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(NUM_CHECKED, scorer.model.noise_layout.latent_size, generator=generator).double()
    with torch.no_grad():
        likely = torch.from_numpy(to_uint8(scorer.model.vae.decode(latents).mean))
    images = torch.cat([likely, torch.randint(0, 256, likely.shape, generator=generator, dtype=torch.uint8)])
    expected = scorer(images, *noise)
    options = onnxruntime.SessionOptions()
    # It warns that noise with a default isn't folded away, which is meant so.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images.numpy()}), strict=True))
    difference = max(
        float((torch.from_numpy(found[name]) - getattr(expected, name)).abs().max()) for name in OUTPUTS[:2]
    )
    if not difference <= TOLERANCE or found["decision"].tolist() != expected.decision.tolist():
        raise UsageError(f"onnxruntime computes other scores ({difference:.1g} apart): nothing is written")
    return difference


def _write(target: Path, graph: bytes, text: str) -> None:
    from vaebm.checkpoint import CheckpointError, write_bytes

    if target.suffix.lower() == ".onnx":
        write_bytes(target, graph)
        return
    is_new = not target.exists()
    try:
        write_bytes(target / DESCRIPTION, f"{text}\n".encode())
        write_bytes(target / GRAPH, graph)
    except CheckpointError:
        (target / DESCRIPTION).unlink(missing_ok=True)
        if is_new and target.is_dir():
            target.rmdir()
        raise


def _describe(name: str, loaded: LoadedModel, scorer: Scorer) -> dict[str, Any]:
    from vaebm import __version__
    from vaebm.applications.onnx_graph import OPSET
    from vaebm.applications.scorer import SCORE_DECIMALS
    from vaebm.checkpoint import file_sha256

    calibration = loaded.calibration or {}
    return {
        "format": "vaebm scorer",
        "format_version": 1,
        "vaebm": __version__,
        "opset": OPSET,
        "model": {"name": name, "manifest_sha256": file_sha256(loaded.folder / "manifest.json")},
        "preprocessing": {
            **loaded.preprocessing.to_dict(),
            "image_shape": list(loaded.model.image_shape),
            "steps": _steps(loaded),
        },
        "inputs": _inputs(loaded, scorer),
        "outputs": {
            "energy": "float64 (N,): E(x), low for normal images, nats",
            "elbo": "float64 (N,): the evidence lower bound, high for normal images, nats",
            "outlier_score": f"float64 (N,): energy - elbo, rounded to {SCORE_DECIMALS} decimals; high for outliers",
            "p_value": "float64 (N,): (1 + number of calibration scores >= outlier_score) / (num_scores + 1)",
            "decision": "bool (N,): true for an outlier, outlier_score >= threshold, which is the same as "
            "p_value <= false_positive_rate",
        },
        "decision": {"false_positive_rate": scorer.false_positive_rate, "threshold": float(scorer.threshold)},
        "calibration": {
            "num_scores": len(scorer.calibration_scores),
            "smallest_p_value": 1 / (len(scorer.calibration_scores) + 1),
            "seed": calibration["seed"],
            "num_posterior_samples": calibration["num_posterior_samples"],
        },
    }


def _inputs(loaded: LoadedModel, scorer: Scorer) -> dict[str, str]:
    count = (loaded.calibration or {})["num_posterior_samples"]
    shape = ", ".join(map(str, loaded.model.image_shape))
    default = "standard-normal; the default, stored in the graph as an initializer, is that of the calibration scores: "
    default += "leave the input out, or p_value and decision mean nothing"
    inputs = {
        "images": f"uint8 (N, {shape}): channels first, rows from the top; N is free",
        "posterior_noise": f"float32 ({count}, {scorer.model.noise_layout.latent_size}): {default}",
    }
    if loaded.model.image_fields.loss_image == "sampled":
        inputs["pixel_noise"] = f"float32 ({count}, {shape}): {default}"
    return inputs


def _steps(loaded: LoadedModel) -> list[str]:
    """Says in words what `vaebm.data.Preprocessing` does."""
    chosen, (channels, height, width) = loaded.preprocessing, loaded.model.image_shape
    low, high = chosen.value_range or (None, None)
    known = "0..255 for 8 bits, 0..65535 for 16 bits" if low is None else f"{low:g}..{high:g}"
    other = "three equal channels make colour of grey" if channels == 3 else "grey = 0.299 R + 0.587 G + 0.114 B"
    if chosen.channels is None:
        other = "it is refused"
    size = f"{height} high and {width} wide"
    cut = f"cut the middle out in the proportions {height}:{width}, then" if chosen.fit == "crop" else "keep all, and"
    resize = f"{cut} resize to {size}, bicubic (a = -0.5) with antialiasing, as Pillow's Image.resize in mode F does"
    if chosen.image_size is None:
        resize = f"images of another size than {size} are refused"
    return [
        "a picture is turned upright, as its EXIF orientation says, before its height and width are looked at",
        "CMYK, YCbCr and palettes become RGB; alpha is laid over white; colour profiles are not applied",
        f"an image of 8 bits that is {size}, with {channels} channel(s), is taken as it is, unless a range is stated",
        f"values are mapped from {known} to 0..255 in floating point, and clipped",
        f"where an image has another number of channels: {other}",
        resize,
        "clip to 0..255 and round to the nearest whole number, halves to even",
    ]
