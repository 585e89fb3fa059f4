"""Two stages, each a step function that ``fit`` drives as a generator."""

from vaebm.training.adversarial import AdversarialSettings, AdversarialState, adversarial_step, start_adversarial
from vaebm.training.batch_norm import reestimate_batch_norms
from vaebm.training.chains import log_density_of, make_kernel
from vaebm.training.ema import update_average
from vaebm.training.energy_stage import energy_step, start_energy
from vaebm.training.energy_state import BUFFER_DTYPES, EnergySettings, EnergyState, kept_width
from vaebm.training.fit import Progress, fit
from vaebm.training.guard import Act, Guarded, GuardMemory, diagnosis, guarded_fit
from vaebm.training.vae_stage import VAESettings, VAEState, start_vae, vae_step
from vaebm.training.verdict import CONDITIONS, GuardSettings, Verdict, judge, lost_signals

__all__ = [
    "BUFFER_DTYPES",
    "CONDITIONS",
    "Act",
    "AdversarialSettings",
    "AdversarialState",
    "EnergySettings",
    "EnergyState",
    "GuardMemory",
    "GuardSettings",
    "Guarded",
    "Progress",
    "VAESettings",
    "VAEState",
    "Verdict",
    "adversarial_step",
    "diagnosis",
    "energy_step",
    "fit",
    "guarded_fit",
    "judge",
    "kept_width",
    "log_density_of",
    "lost_signals",
    "make_kernel",
    "reestimate_batch_norms",
    "start_adversarial",
    "start_energy",
    "start_vae",
    "update_average",
    "vae_step",
]
