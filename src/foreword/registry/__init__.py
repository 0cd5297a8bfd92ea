"""Published artifacts: files only, named by what they hold, with versions and aliases."""

from foreword.registry.registry import Registry
from foreword.registry.version import Version

__all__ = ["Registry", "Version"]
