"""Scores of written texts against references: BLEU, chrF, ROUGE, NIST and METEOR, each as a well-known library has it.

A text may have any number of references. The libraries come with ``foreword[generation]`` and are imported when
they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import zip_longest
from typing import Literal

from foreword.errors import TaskError
from foreword.metrics.scores import Scores, check_items, ratio

Metric = Literal["bleu", "chrf", "rouge", "nist", "meteor"]
References = Sequence[Sequence[str]]
"""Per text, those it is compared with."""
_NIST = 5
"""Words of the longest n-grams that NIST counts."""


@dataclass(frozen=True)
class Definition:
    """One metric.

    Attributes:
        count: name -> number, from references and texts.
        libraries: modules it imports.
        main: the name to select by, a fraction in [0, 1]; None for numbers on a scale of their own.
    """

    count: Callable[[References, Sequence[str]], Mapping[str, float]]
    libraries: tuple[str, ...]
    main: str | None


def _bleu(references: References, texts: Sequence[str]) -> dict[str, float]:
    return {"bleu": _corpus_score("BLEU", references, texts)}


def _chrf(references: References, texts: Sequence[str]) -> dict[str, float]:
    return {"chrf": _corpus_score("CHRF", references, texts)}


def _corpus_score(metric: str, references: References, texts: Sequence[str]) -> float:
    # A text with fewer references than another has None in the place of those it lacks.
    columns = [list(column) for column in zip_longest(*references)]
    score = getattr(import_module("sacrebleu.metrics"), metric)().corpus_score(list(texts), columns).score
    return min(float(score) / 100, 1.0)  # a perfect one comes out a rounding above


def _rouge(references: References, texts: Sequence[str]) -> dict[str, float]:
    names = ("rouge1", "rouge2", "rougeL")
    scorer = import_module("rouge_score.rouge_scorer").RougeScorer(names, use_stemmer=True)
    found = [scorer.score_multi(list(wanted), text) for wanted, text in zip(references, texts, strict=True)]
    return {name: ratio(sum(one[name].fmeasure for one in found), len(found)) for name in names}


def _nist(references: References, texts: Sequence[str]) -> dict[str, float]:
    words = _words()
    wanted, found = [[words(one) for one in some] for some in references], [words(text) for text in texts]
    longest = min(max(map(len, found)), _NIST)  # the library divides by the number of n-grams; without any they add 0
    if not longest:
        return {"nist": 0.0}
    return {"nist": float(import_module("nltk.translate.nist_score").corpus_nist(wanted, found, n=longest))}


def _meteor(references: References, texts: Sequence[str]) -> dict[str, float]:
    words, score = _words(), import_module("nltk.translate.meteor_score").meteor_score
    pairs = zip(references, texts, strict=True)
    found = [score([words(reference) for reference in some], words(text)) for some, text in pairs]
    return {"meteor": ratio(sum(found), len(found))}


def _words() -> Callable[[str], list[str]]:
    """The tokenization of mteval-v13a, as BLEU has it."""
    tokenize = import_module("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    return lambda text: tokenize(text).split()


METRICS: dict[Metric, Definition] = {
    "bleu": Definition(_bleu, ("sacrebleu",), "bleu"),
    "chrf": Definition(_chrf, ("sacrebleu",), "chrf"),
    "rouge": Definition(_rouge, ("rouge_score",), "rouge2"),
    "nist": Definition(_nist, ("nltk", "sacrebleu"), None),
    "meteor": Definition(_meteor, ("nltk", "sacrebleu"), "meteor"),
}


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Refuse metrics that could not be counted here, before anything is written to be counted.

    Raises:
        TaskError: a library, or the data it needs, is missing; the message says what to install.
    """
    for metric in metrics:
        for library in METRICS[metric].libraries:
            if find_spec(library) is None:
                raise TaskError(
                    f"task.metrics: '{metric}' needs the library `{library}`. Install it with: "
                    "pip install 'foreword[generation]'; or leave it out of task.metrics"
                )
        if metric == "meteor" and not has_wordnet():
            raise TaskError(
                "task.metrics: 'meteor' needs the WordNet data of nltk. Fetch it with: python -m nltk.downloader "
                "wordnet; or leave it out of task.metrics"
            )


def has_wordnet() -> bool:
    """Whether nltk finds the data that METEOR takes synonyms from."""
    try:
        import_module("nltk.corpus").wordnet.ensure_loaded()
    except LookupError:
        return False
    return True


def text_scores(
    references: References, texts: Sequence[str], metrics: Sequence[Metric] = ("bleu",), *, lowercase: bool = False
) -> Scores:
    """Written texts against their references. The first metric gives the main value.

    Values, fractions in [0, 1]:

    * ``bleu``: corpus BLEU-4 of sacrebleu (Post 2018) with its defaults: tokens of mteval-v13a, exponential
      smoothing, the closest reference's length.
    * ``chrf``: corpus chrF2 of sacrebleu with its defaults (Popović 2015).
    * ``rouge1``, ``rouge2`` (the main one of them), ``rougeL``: F1 of rouge-score with stemming, of the reference
      that gives the highest, averaged over texts (Lin 2004). It sees only letters a to z and digits.
    * ``meteor``: of nltk, averaged over texts (Banerjee & Lavie 2005), not the Java program's.

    Measures: ``nist``, of nltk, n-grams of up to 5 words (Doddington 2002). Counts: ``items``, ``references`` and
    ``empty``, texts without a word.

    Args:
        references: per text, one or several.
        texts: one per item.
        metrics: names in `METRICS`.
        lowercase: whether all is compared in lower case.

    Raises:
        ValueError: there are no texts, lengths differ, a text has no reference, or the first metric cannot be a main
            value.
    """
    check_items(references, texts)
    if not all(references):
        raise ValueError("a text without a reference")
    main = METRICS[metrics[0]].main
    if main is None:
        raise ValueError(f"'{metrics[0]}' has no fixed scale, so it cannot be the main value")
    if lowercase:
        references = [[reference.lower() for reference in some] for some in references]
        texts = [text.lower() for text in texts]
    numbers: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for metric in metrics:
        definition = METRICS[metric]
        numbers[definition.main is not None].update(definition.count(references, texts))
    counts = {
        "items": len(texts),
        "references": sum(map(len, references)),
        "empty": sum(not text.strip() for text in texts),
    }
    return Scores(values=numbers[True], counts=counts, main=main, measures=numbers[False])
