"""Frozen transformers with a place for prompts, and the families Foreword supports."""

from foreword.backbones.backbone import Backbone, BackboneIdentity
from foreword.backbones.families import FAMILIES, Family
from foreword.backbones.loading import load_backbone

__all__ = ["FAMILIES", "Backbone", "BackboneIdentity", "Family", "load_backbone"]
