"""Nothing that was typed, sent or shown gets out, or runs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import foreword as fw
from foreword.registry import Registry
from foreword.serving.keys import Caller, Keys
from playground_page import EVIL, Playground
from serving_at import Served, served

KEY = "a-key-that-is-not-guessed"


def test_texts_and_labels_are_never_read_as_markup(playground: Playground):
    playground.choose("evil", "ner").fill(text=EVIL).ask()
    assert EVIL in playground.text(".card .big")
    assert playground.page.locator("img").count() == 0
    assert EVIL in playground.page.locator(".card .text").evaluate(
        """node => { const copy = node.cloneNode(true);
          copy.querySelectorAll(".tag").forEach(tag => tag.remove()); return copy.textContent; }"""
    )


def test_the_policy_lets_nothing_else_run(playground: Playground, server: Served):
    policy = server.client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    ran = playground.page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "window.ran = 1";
          document.body.append(script); return window.ran ?? 0; }"""
    )
    assert ran == 0
    assert len(playground.faults) == 1
    playground.faults.clear()


def test_a_key_is_asked_for_and_kept_in_memory_only(registry: Registry, new_page: Any):
    keys = Keys({sha256(KEY.encode()).digest(): Caller("me", frozenset({"ner"}))})
    with served(registry, keys=keys) as server:
        page = new_page(server.url).open()
        assert page.page.locator("#door").is_visible()
        assert not page.page.locator("#columns").is_visible()
        assert page.page.evaluate("document.activeElement.id") == "key"
        page.page.keyboard.type("another-key-of-somebody")
        page.page.keyboard.press("Enter")
        page.page.wait_for_selector("#door:not([hidden]) >> text=may not")
        page.page.keyboard.type(KEY)
        page.page.keyboard.press("Enter")
        page.page.wait_for_selector("#columns:not([hidden])")
        assert not page.page.locator("#door").is_visible()
        assert page.texts("#list b") == ["ner"]
        page.ask()
        assert page.texts(".card h3") == ["ner"]
        kept = page.page.evaluate(
            "() => [document.cookie, localStorage.length, sessionStorage.length, document.getElementById('key').value]"
        )
        assert kept == ["", 0, 0, ""]
        assert KEY not in page.page.url + page.page.content()
        assert KEY not in page.page.evaluate("requests().map(asCurl).join()")
        page.open()
        assert page.page.locator("#door").is_visible()


def test_the_page_asks_for_nothing_else():
    """Not even where a browser would not show it."""
    page = (Path(fw.__file__).parent / "serving" / "playground" / "index.html").read_text("utf-8")
    assert "innerHTML" not in page
    assert "http://" not in page
    assert "https://" not in page
