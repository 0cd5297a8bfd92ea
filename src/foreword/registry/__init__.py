"""Published artifacts: files only, named by what they hold, with versions and aliases."""

from foreword.registry.registry import Registry
from foreword.registry.removing import Collected
from foreword.registry.verifying import Fault
from foreword.registry.version import Version

__all__ = ["Collected", "Fault", "Registry", "Version"]
