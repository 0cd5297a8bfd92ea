"""Stretches in a text, against counting them."""

from __future__ import annotations

import random

from foreword.data.spans import word_spans
from playground_page import TEXT, Playground


def test_stretches_that_overlap_are_all_there_and_the_text_is_whole(playground: Playground):
    """Against counting, character by character, which stretches cover it."""
    generator = random.Random(0)
    cases = []
    for _ in range(200):
        length = generator.randint(1, 12)
        text = "".join(generator.choice("ab 🎉é<&") for _ in range(length))
        ends = [sorted((generator.randint(0, length), generator.randint(0, length))) for _ in range(4)]
        spans = [{"start": a, "end": b, "label": f"L{n}"} for n, (a, b) in enumerate(ends) if a < b]
        cases.append({"text": text, "spans": spans})
    drawn = playground.page.evaluate(
        """cases => cases.map(({text, spans}) => {
          const covered = [], tags = [];
          const walk = (node, over) => {
            if (node.nodeType === 3) for (const char of node.data) covered.push([char, [...over].sort()]);
            else if (node.className === "tag") tags.push(node.textContent);
            else for (const child of node.childNodes)
              walk(child, node.tagName === "MARK" ? [...over, node.title] : over);
          };
          walk(marked(text, spans, null)[0], []);
          return [covered, tags.sort()];
        })""",
        cases,
    )
    for case, (covered, tags) in zip(cases, drawn, strict=True):
        spans = case["spans"]
        expected = [
            [char, sorted(one["label"] for one in spans if one["start"] <= at < one["end"])]
            for at, char in enumerate(case["text"])
        ]
        assert covered == expected, case
        assert tags == sorted(one["label"] for one in spans)


def test_words_to_choose_from_are_those_that_the_server_counts(playground: Playground):
    texts = [
        TEXT,
        "don't, well-known: 3.5% of e\u0301tudes",
        "  \n two\tlines ",
        "👍🏽🇩🇪🇫🇷 a\u200db नमस्ते",
        "“quoted” (so)",
        "",
    ]
    expected = [[text[start:end] for start, end in word_spans(text)] for text in texts]
    assert playground.page.evaluate("texts => texts.map(cutWords)", texts) == expected


def test_labels_beyond_the_colours_differ_in_their_lines(playground: Playground):
    looks = playground.page.evaluate(
        """() => { const spans = Array.from({length: 24}, (_, n) => ({start: n, end: n + 1, label: `L${n}`}));
          return [...marked("x".repeat(24), spans, null)[0].querySelectorAll("mark")].map(mark => mark.className); }"""
    )
    assert len(set(looks)) == 24
