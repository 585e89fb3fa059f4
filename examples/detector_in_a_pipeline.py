"""A VAEBM as an outlier detector among scikit-learn's tools: a pipeline, a grid search, p-values.

    python examples/detector_in_a_pipeline.py

Digits below five are normal, the others are outliers that no training sees.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from vaebm.sklearn import VAEBMDetector

# %% Data: flattened pictures, 64 grey levels a row; y is 1 for normal ones and -1 for outliers
rows, labels = load_digits(return_X_y=True)
order = np.random.RandomState(0).permutation(len(rows))
rows, y = rows[order], np.where(labels[order] < 5, 1, -1)
known, new = slice(0, 1000), slice(1000, None)

# %% A grid search: folds that train on normal pictures only and are judged on both kinds
pipeline = Pipeline([
    # clip: a new picture may be brighter somewhere than all known ones.
    ("scale", MinMaxScaler(clip=True)),
    # Fewer posterior samples behind a score will do while settings are compared.
    ("detector", VAEBMDetector((8, 8), num_energy_iterations=20, num_posterior_samples=2, random_state=0)),
])  # fmt: skip
folds = [(train[y[train] == 1], test) for train, test in KFold(2).split(rows[known])]
grid = {"detector__num_vae_iterations": [20, 200], "detector__vae_learning_rate": [1e-3, 4e-3]}
search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds, refit=False).fit(rows[known], y[known])
print(f"best of the grid: {search.best_params_}, AUROC {search.best_score_:.3f}")
assert search.best_params_["detector__num_vae_iterations"] == 200

# %% The best settings, fitted to all known normal pictures: three quarters train, one quarter calibrates
pipeline.set_params(**search.best_params_, detector__contamination=0.05, detector__num_posterior_samples=8)
pipeline.fit(rows[known][y[known] == 1])
is_normal, flagged = y[new] == 1, pipeline.predict(rows[new]) == -1
rate, found = flagged[is_normal].mean(), flagged[~is_normal].mean()
# 123 calibration pictures and 409 new normal ones: the rate scatters by some two points around its level.
assert abs(rate - 0.05) < 0.08, rate
assert found > 0.6, found

# %% The terms behind the decision, and p-values, with which the rate is a choice of later
detector, scaled = pipeline["detector"], pipeline["scale"].transform(rows[new])
scores = detector.scores(scaled)
terms = {"joint": scores.joint, "ELBO": scores.elbo, "energy": -scores.energy}
areas = ", ".join(f"{name} {roc_auc_score(is_normal, term.numpy()):.3f}" for name, term in terms.items())
strict = (detector.p_values(scaled) <= 0.02)[is_normal].mean()
print(f"new normal digits flagged: {100 * rate:.1f} % at 5 %, {100 * strict:.1f} % at 2 %; others: {100 * found:.0f} %")
print(f"AUROC: {areas}")
