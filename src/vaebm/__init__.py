"""VAEBM: a frozen VAE corrected by an energy network, h(x, z) ∝ p(x, z) · exp(−E(x)).

    >>> import vaebm
    >>> sorted(vaebm.__all__)
    ['__version__', 'generate', 'load', 'outlier_scores', 'save']

`load` takes a bundled name, a model folder, a run folder or a hub id; `generate` draws images by MCMC on the VAE's own
standard-normal noise; `outlier_scores` judges images; `save` writes a model folder. These names are stable. Importing
`vaebm` does not import torch; the first use of one of the functions does. The conventions that hold everywhere:

**Energy.** p(x) ∝ exp(−E(x)): low energy = likely. `energy` clamps its input to the image range, so E∘clamp is what
is trained and what is sampled. Images are float32 (N, C, H, W) in [−1, 1] inside, uint8 at the edges; two-dimensional
toys are (B, 2, 1, 1), mapped affinely into the range; their log-likelihoods are reported in the original coordinates.

**Noise.** One flat tensor (B, D): the latent groups top-down, each flattened in (C, H, W) order, then the image noise,
if the model uses any. In noise space the sampled density is exact, because the Jacobian cancels the scales:
log h(noise) = −E(image(noise)) − ½|noise|² + const.

**Which image?** Three fields are stored with the model, each `sampled` (mean + scale · noise) or `mean`: `chain_image`
(what the energy sees in the chain), `loss_image` (the negative of the loss), `output_image` (what `generate` returns).
With `chain_image: mean` the model is an energy on the decoder's mean, a density over noise and not p(x) · exp(−E(x)):
likelihoods of images are refused for it, and its joint score is a heuristic. If no field says `sampled`, there is no
image noise.

**Step size.** η as in the paper: noise ← noise + (η/2) · ∇ log h + √η · ξ, with ξ ~ N(0, I).

**Units and signs.** Nats inside, bits per dimension in reports. Raw terms keep their own sense (low energy and high
ELBO are normal); whatever is called `…_score` is higher for an outlier; `joint` = ELBO − E.

**Splits.** Training, selection (every choice), calibration (p-values) and test (read once, for the table), fixed by
seed and stored. MNIST: 50,000 / 5,000 / 5,000 / 10,000.

**Randomness.** An explicit `torch.Generator`, never a global seed. On k processes the global noise is drawn and sliced.
Devices follow the tensors.

**Precision.** Networks run in the model's precision; sums of energies, log-densities, KL and statistics are float64.

References:
    Xiao, Kreis, Kautz, Vahdat: VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models,
    arXiv 2010.00654.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaebm.applications import generate, outlier_scores
    from vaebm.recipes.build import load, save

    __version__: str

__all__ = ["__version__", "generate", "load", "outlier_scores", "save"]

_HOMES = {
    "generate": "vaebm.applications",
    "outlier_scores": "vaebm.applications",
    "load": "vaebm.recipes.build",
    "save": "vaebm.recipes.build",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = _version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'vaebm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vaebm")
    except PackageNotFoundError:
        return "0+unknown"
