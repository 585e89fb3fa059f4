r"""A VAEBM behind scikit-learn's interface for outlier detectors.

``fit`` sets n calibration pictures aside, trains on the others, and scores the ones set aside: a₁ ≤ … ≤ aₙ. A picture
is called an outlier if its conformal p-value, (1 + #{i : aᵢ ≤ score}) / (n + 1), is at most ``contamination``. That is
the same as score < a_k, with k the largest whole number such that k / (n + 1) ≤ contamination; so ``offset_`` is a_k. A
new picture from the source of those of ``fit`` is called an outlier with probability k / (n + 1), on average over
calibration sets.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, arXiv 2010.00654.
    Testing for Outliers with Conformal p-values, arXiv 2104.08279.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from vaebm.applications import OutlierScores, in_float64, outlier_scores, round_scores
from vaebm.data import DataError, to_float
from vaebm.distributed import make_engine
from vaebm.metrics import conformal_p_values, threshold
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import Config, ConfigError, quick
from vaebm.sklearn.learning import learn
from vaebm.sklearn.pictures import arrange, is_positive, row_layout, to_levels

_LARGEST_SEED = 2**31 - 64


class VAEBMDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds pictures that are unlike those it was fitted to.

    Pictures are arrays (n, H, W), (n, C, H, W) or (n, H, W, C), or flattened, (n, features) with ``image_shape`` set;
    1 or 3 channels, height and width from 8 to 128.

    Arguments:
        image_shape: (H, W), (C, H, W) or (H, W, C), which also says how rows are flattened; None: that of the
            pictures.
        contamination: The rate at which new pictures from the source of those of ``fit`` are called outliers, above 0
            and at most 0.5.
        value_range: The values (black, white) of a pixel; None: [0, 1] for floating point, 0..255 for uint8, 0..65535
            for uint16. Values outside are refused.
        num_vae_iterations: The number of iterations that train the VAE; None: what ``vaebm.recipes.quick`` says.
        num_energy_iterations: The number of iterations that train the energy network; None: the same.
        vae_learning_rate: The peak of the VAE's learning rate; None: the same.
        energy_learning_rate: The initial learning rate of the energy network; None: the same.
        num_posterior_samples: The number of posterior samples behind a score.
        calibration_share: The share of the pictures of ``fit`` that is set aside to calibrate the decision.
        batch_size: The number of pictures that are scored at once; scores don't depend on it.
        random_state: What all randomness comes from: None, a seed or a numpy RandomState.
        device: cpu, cuda, or auto: cuda where there is one.
        verbose: Whether ``fit`` prints lines of figures.

    Attributes:
        model_: The trained VAEBM, on the CPU.
        image_shape_: The shape (C, H, W) of a picture.
        n_features_in_: The number of values of a picture.
        feature_names_in_: The names of the columns, if ``fit`` saw a data frame.
        calibration_scores_: The scores of the pictures set aside, ascending, (n,).
        offset_: The score below which a picture is an outlier.
        scoring_seed_, num_posterior_samples_: What the noise of every score comes from.

    References:
        VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, arXiv 2010.00654.

    Example:
        >>> rng = np.random.RandomState(0)
        >>> stripes = np.tile(np.linspace(0, 1, 8), (60, 8, 1)) * rng.uniform(0.5, 1, (60, 1, 1))
        >>> detector = VAEBMDetector(num_vae_iterations=100, num_energy_iterations=5, random_state=0).fit(stripes)
        >>> detector.predict(stripes[:1].transpose(0, 2, 1))
        array([-1])
    """

    def __init__(  # noqa: PLR0913  # scikit-learn wants every parameter in the signature
        self,
        image_shape: Sequence[int] | None = None,
        *,
        contamination: float = 0.1,
        value_range: tuple[float, float] | None = None,
        num_vae_iterations: int | None = None,
        num_energy_iterations: int | None = None,
        vae_learning_rate: float | None = None,
        energy_learning_rate: float | None = None,
        num_posterior_samples: int = 8,
        calibration_share: float = 0.25,
        batch_size: int = 200,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.image_shape = image_shape
        self.contamination = contamination
        self.value_range = value_range
        self.num_vae_iterations = num_vae_iterations
        self.num_energy_iterations = num_energy_iterations
        self.vae_learning_rate = vae_learning_rate
        self.energy_learning_rate = energy_learning_rate
        self.num_posterior_samples = num_posterior_samples
        self.calibration_share = calibration_share
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains a VAEBM on pictures and calibrates its decision.

        Arguments:
            X: The pictures, n of them.
            y: Ignored.

        Returns:
            The detector itself.

        Raises:
            ValueError: If a parameter or the pictures can't be used, or the training diverges.
        """
        self._check_parameters()
        levels = self._levels(self._array(X, is_fit=True), is_fit=True)
        rank, num_calibration = self._rank(len(levels))
        randomness = check_random_state(self.random_state)
        order = randomness.permutation(len(levels))
        seed, scoring_seed = (int(value) for value in randomness.randint(_LARGEST_SEED, size=2))
        training = torch.from_numpy(levels[order[num_calibration:]])
        shape = (levels.shape[1], levels.shape[2], levels.shape[3])
        model = learn(self._config(shape, len(training)), training, seed, self._tell)
        self.model_, self.image_shape_ = model, shape
        self.scoring_seed_, self.num_posterior_samples_ = scoring_seed, self.num_posterior_samples
        calibration = self._scores_of(levels[order[:num_calibration]])
        self.calibration_scores_ = np.sort(calibration.joint.numpy())
        self.offset_ = float(self.calibration_scores_[rank - 1])
        return self

    def scores(self, X: Any) -> OutlierScores:
        """Scores pictures: energy, ELBO and joint, float64 tensors (n,), in nats.

        The noise is that of ``fit``, the same for all pictures; networks run in float64, and terms are rounded to four
        decimals, far above what float64 loses. So a score depends neither on the other pictures nor on ``batch_size``.

        Arguments:
            X: The pictures, n of them.

        Raises:
            ValueError: If the pictures can't be used.
        """
        check_is_fitted(self, "model_")
        return self._scores_of(self._levels(self._array(X, is_fit=False), is_fit=False))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Returns the joint scores ELBO − E of pictures, (n,); high = normal, which is scikit-learn's sign."""
        joint: NDArray[np.float64] = self.scores(X).joint.numpy()
        return joint

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Returns ``score_samples`` − ``offset_``, (n,); below 0 = outlier."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Returns −1 for outliers and 1 for the others, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Returns conformal p-values, (n,): small = outlier; ``predict`` says −1 where it is at most contamination.

        They tell more than ``predict``: with them the rate is a choice of later, and no new ``fit``.
        """
        outlier_score = -torch.from_numpy(self.score_samples(X))
        values: NDArray[np.float64] = conformal_p_values(
            -torch.from_numpy(self.calibration_scores_), outlier_score
        ).numpy()
        return values

    def calibration(self) -> dict[str, Any]:
        """Returns what ``vaebm.recipes.save`` keeps beside ``model_``: ``vaebm score`` then says what ``predict`` says.

        The rate is k / (n + 1), with ``offset_`` the k-th lowest of n calibration scores; a later ``contamination`` is
        without effect on it, as it is on ``predict``.
        """
        check_is_fitted(self, "model_")
        scores = round_scores(torch.from_numpy(-self.calibration_scores_)).flip(0)
        rank = 1 + int(np.count_nonzero(self.calibration_scores_ < self.offset_))
        rate = rank / (len(scores) + 1)
        return {
            "score": "joint",
            "seed": self.scoring_seed_,
            "num_posterior_samples": self.num_posterior_samples_,
            "false_positive_rate": rate,
            "threshold": threshold(scores, rate),
            "outlier_scores": scores.tolist(),
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = is_positive(self.value_range)
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = _packed(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            state = {**state, "model_": _unpacked(state["model_"])}
        super().__setstate__(state)

    def _array(self, X: Any, *, is_fit: bool) -> NDArray[Any]:
        """Lets scikit-learn check what there is to check of any array, and notes the number of features."""
        num_axes = len(X.shape) if hasattr(X, "shape") else np.asarray(X).ndim
        least = 2 if is_fit else 1
        if num_axes not in (3, 4):
            table: NDArray[Any] = validate_data(self, X, reset=is_fit, dtype="numeric", ensure_min_samples=least)
            return table
        found: NDArray[Any] = check_array(
            X, dtype="numeric", ensure_2d=False, allow_nd=True, ensure_min_samples=least, estimator=self, input_name="X"
        )
        if is_fit:
            self.n_features_in_ = math.prod(arrange(found, None, None).shape[1:])
            # From an earlier fit to a data frame.
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return found

    def _levels(self, values: NDArray[Any], *, is_fit: bool) -> NDArray[np.uint8]:
        """Brings a checked array to bytes (n, C, H, W)."""
        stated = None if self.image_shape is None else row_layout(self.image_shape)
        pictures = arrange(values, stated, None if is_fit else self.image_shape_)
        return np.ascontiguousarray(to_levels(pictures, self.value_range))

    def _scores_of(self, levels: NDArray[np.uint8]) -> OutlierScores:
        device = make_engine("fp32", self.device).device
        # In float32 the size of a batch moves the last digits.
        model = in_float64(self.model_).to(device)
        generator = torch.Generator().manual_seed(self.scoring_seed_)
        parts = outlier_scores(
            model,
            to_float(levels),
            num_posterior_samples=self.num_posterior_samples_,
            generator=generator,
            batch_size=self.batch_size,
        )
        # Else the calibration picture on the edge of the decision would fall to either side with the size of its batch.
        return OutlierScores(*(round_scores(part.cpu()) for part in (parts.energy, parts.elbo, parts.joint)))

    def _config(self, shape: tuple[int, int, int], num_training: int) -> Config:
        # What is derived for ten pictures holds for fewer.
        config = quick(shape, max(num_training, 10))
        vae = {"num_iterations": self.num_vae_iterations, "learning_rate": self.vae_learning_rate}
        energy = {"num_iterations": self.num_energy_iterations, "learning_rate": self.energy_learning_rate}
        # float32: what a seed gives should not hang on which hardware has bfloat16.
        return replace(
            config,
            vae=replace(config.vae, **_given(vae)),
            energy=replace(config.energy, **_given(energy)),
            device=self.device,
            precision="fp32",
        )

    def _rank(self, num_pictures: int) -> tuple[int, int]:
        """Returns k and the number n of calibration pictures."""
        count = min(max(1, round(self.calibration_share * num_pictures)), num_pictures - 2)
        rank = int(np.count_nonzero(np.arange(1, count + 1) / (count + 1) <= self.contamination))
        if rank == 0:
            least = math.ceil(1 / self.contamination) - 1
            raise DataError(
                f"n_samples = {num_pictures}, of which {max(count, 0)} are set aside: contamination "
                f"{self.contamination:g} needs at least {least} of them: give more pictures or set a larger "
                "calibration_share"
            )
        return rank, count

    def _tell(self, line: str) -> None:
        if self.verbose:
            print(f"[VAEBMDetector] {line}", flush=True)

    def _check_parameters(self) -> None:
        for name in ("num_vae_iterations", "num_energy_iterations", "num_posterior_samples", "batch_size"):
            value = getattr(self, name)
            is_open = value is None and name.endswith("iterations")
            if not is_open and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
                raise ConfigError(f"{name} is {value!r}: expected a whole number of at least 1")
        for name in ("vae_learning_rate", "energy_learning_rate"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ConfigError(f"{name} is {value!r}: expected a number above 0")
        if not (_is_number(self.contamination) and 0 < self.contamination <= 0.5):
            raise ConfigError(f"contamination is {self.contamination!r}: expected a rate above 0, at most 0.5")
        if not (_is_number(self.calibration_share) and 0 < self.calibration_share < 1):
            raise ConfigError(f"calibration_share is {self.calibration_share!r}: expected a share between 0 and 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    kinds = {"num_iterations": int, "learning_rate": float}
    return {name: kinds[name](value) for name, value in values.items() if value is not None}


def _packed(model: VAEBM) -> dict[str, Any]:
    """Returns plain values and arrays: modules with reparameterised weights can't be pickled."""
    return {
        "vae": model.vae.arguments,
        "energy": model.energy.arguments,
        "images": asdict(model.image_fields),
        "sampling": model.sampling,
        "tensors": {name: value.numpy() for name, value in model.state_dict().items()},
    }


def _unpacked(stored: dict[str, Any]) -> VAEBM:
    with torch.random.fork_rng(devices=[]):
        vae, energy = ConvVAE(**stored["vae"]), EnergyNetwork(**stored["energy"])
    model = VAEBM(vae, energy, ImageFields(**stored["images"]), stored["sampling"])
    # Copies: joblib may have mapped the arrays from a read-only file.
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in stored["tensors"].items()})
    return model.eval().requires_grad_(False)
