"""Foreword: adapt one frozen transformer to many tasks with a small foreword of learned vectors each."""

from foreword.api import train
from foreword.backbones import Backbone, load_backbone
from foreword.errors import ForewordError
from foreword.inference.mixed import MixedPredictor
from foreword.inference.predictor import Predictor, load
from foreword.methods import FineTuning, HeadOnly, PTuningV2
from foreword.recipes import Recipe, load_recipe, run_recipe
from foreword.tasks import NER, QA, Classification
from foreword.training.settings import TrainingSettings

__version__ = "0.1.0"

__all__ = [
    "NER",
    "QA",
    "Backbone",
    "Classification",
    "FineTuning",
    "ForewordError",
    "HeadOnly",
    "MixedPredictor",
    "PTuningV2",
    "Predictor",
    "Recipe",
    "TrainingSettings",
    "load",
    "load_backbone",
    "load_recipe",
    "run_recipe",
    "train",
]
