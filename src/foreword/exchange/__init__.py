"""Prompts of other libraries: one file per format, and the two verbs over all of them."""

from foreword.exchange.exporting import EXPORTS, export_prompt
from foreword.exchange.importing import IMPORTS, import_prompt

__all__ = ["EXPORTS", "IMPORTS", "export_prompt", "import_prompt"]
