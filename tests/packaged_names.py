"""Packaged recipes by what they are: those of one task, those of several, and parts that are no recipe alone."""

from __future__ import annotations

from foreword.recipes import packaged_in, packaged_recipes

PARTS = [*packaged_in("parts")]
SEVERAL = [name for name, text in packaged_recipes().items() if "[tasks." in text]
SINGLE = [name for name in packaged_recipes() if name not in {*PARTS, *SEVERAL}]
