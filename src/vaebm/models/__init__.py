"""VAEs, energy networks and their product; classifiers as feature extractors. Nothing here samples or trains."""

from vaebm.models.classifier import Classifier, StackedClassifier
from vaebm.models.conv_vae import ConvVAE
from vaebm.models.dense_energy import DenseEnergy
from vaebm.models.energy import EnergyFn, EnergyNetwork
from vaebm.models.folded import FoldedEnergy, FoldedNVAE, can_fold, folded, for_chains
from vaebm.models.nvae import NVAE
from vaebm.models.pixels import GaussianReference, TemperedEnergy
from vaebm.models.vae import VAE, Decoded, ElboTerms
from vaebm.models.vaebm import VAEBM, ImageFields, Transported

__all__ = [
    "NVAE",
    "VAE",
    "VAEBM",
    "Classifier",
    "ConvVAE",
    "Decoded",
    "DenseEnergy",
    "ElboTerms",
    "EnergyFn",
    "EnergyNetwork",
    "FoldedEnergy",
    "FoldedNVAE",
    "GaussianReference",
    "ImageFields",
    "StackedClassifier",
    "TemperedEnergy",
    "Transported",
    "can_fold",
    "folded",
    "for_chains",
]
