"""Many tasks over HTTP from one frozen model. Needs the extra ``serve``."""

from foreword.serving.app import create_app
from foreword.serving.settings import ServingSettings

__all__ = ["ServingSettings", "create_app"]
