"""A scorer as an ONNX graph, which runs without Python and without torch.

The graph is in float64 and in elementary operations (`vaebm.nn.elementary`). The noise is an input with a default:
whoever hands in images alone gets the scores that p-values and threshold are meant for.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vaebm.applications.outlier_scores import ScoringNoise
from vaebm.applications.scorer import Decisions, Scorer
from vaebm.nn.elementary import elementary

__all__ = ["INPUTS", "METADATA_KEY", "OPSET", "OUTPUTS", "to_onnx"]

INPUTS = ("images", "posterior_noise", "pixel_noise")
OUTPUTS = Decisions._fields
METADATA_KEY = "vaebm"
# 17 is the first with a layer normalisation, and runtimes of 2022 know it.
OPSET = 17


def to_onnx(scorer: Scorer, noise: ScoringNoise, description: str) -> bytes:
    """Writes a scorer as an ONNX model with the inputs ``INPUTS`` and the outputs ``OUTPUTS``.

    Arguments:
        scorer: The scorer.
        noise: The noise that is the inputs' default, of K samples; K is fixed in the graph.
        description: What a reader must know, stored in the model's metadata under ``METADATA_KEY``.

    Returns:
        The content of the file.

    Raises:
        ImportError: If onnx isn't installed.
        NotImplementedError: If the model has a layer that ``elementary`` doesn't know.
    """
    import onnx
    from onnx import numpy_helper

    buffer = io.BytesIO()
    images = torch.zeros(2, *scorer.model.image_shape, dtype=torch.uint8)
    with elementary(), _float64_constants(), warnings.catch_warnings():
        # The exporter that doesn't need onnxscript is called legacy, and warns of shapes, which are fixed but for N.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            scorer,
            (images, noise.posterior.float(), noise.pixel.float()),
            buffer,  # type: ignore[arg-type]  # a file that is open will do
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "N"} for name in ("images", *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    known = {item.name for item in model.graph.input}
    for name, values in zip(INPUTS[1:], noise, strict=True):
        # Where the energy sees clean images there is no pixel noise, and the exporter drops the input.
        if name in known:
            model.graph.initializer.append(numpy_helper.from_array(values.float().numpy(), name))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, description
    model.producer_name = "vaebm"
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def _float64_constants() -> Iterator[None]:
    # The exporter writes a number that meets a tensor without axes in the default type.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
