"""Frozen transformers with a place for prompts, and the families Foreword supports."""

from foreword.backbones.backbone import Backbone
from foreword.backbones.devices import device_named, may_use_gpu
from foreword.backbones.families import FAMILIES, Family
from foreword.backbones.fingerprint import BackboneIdentity
from foreword.backbones.generation import continuation_logits, generate
from foreword.backbones.loading import load_backbone, load_pooler, plan_backbone
from foreword.backbones.quantization import check_device
from foreword.backbones.sharding import check_shardable, shard_layers
from foreword.backbones.trunk import TrunkCache, TrunkCaches

__all__ = [
    "FAMILIES",
    "Backbone",
    "BackboneIdentity",
    "Family",
    "TrunkCache",
    "TrunkCaches",
    "check_device",
    "check_shardable",
    "continuation_logits",
    "device_named",
    "generate",
    "load_backbone",
    "load_pooler",
    "may_use_gpu",
    "plan_backbone",
    "shard_layers",
]
