"""The playground as a person uses it, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import foreword as fw
from foreword.registry import Registry
from tiny import tiny_backbone
from tiny_artifacts import TASKS

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

KINDS = [kind for kind in TASKS if kind != "probing"]  # which needs a language model
EVIL = "<img src=x onerror=alert(1)>"
TEXT = "🎉 Anna Smith visited “New” London 👩‍👩‍👧 with Peter."


class Playground:
    """The page as a person uses it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.elsewhere: list[str] = []
        self._stand_ins: dict[str, Callable[[Route], None]] = {}
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append("a dialog"), dialog.dismiss()))
        page.on("console", lambda line: "Security Policy" in line.text and self.faults.append(line.text))
        page.on("request", self._note)
        # Before the page is open: Chromium lets requests through for a moment where interception starts later.
        page.route("**/v1/*", self._answer)

    def _answer(self, route: Route) -> None:
        stand_in = self._stand_ins.get(route.request.url)
        stand_in(route) if stand_in else route.continue_()

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.elsewhere.append(request.url)
        if request.url.endswith("/v1/predict"):
            self.asked.append(request.post_data_json)

    def stand_in(self, path: str, answer: Callable[[Route], None]) -> None:
        """From now on the page's requests of ``path`` are answered here and not by the server."""
        self._stand_ins[self.url.rstrip("/") + path] = answer

    def open(self) -> Playground:
        self.page.goto(self.url)
        self.page.wait_for_selector("#columns:not([hidden]), #notice:not([hidden]), #door:not([hidden])")
        return self

    def choose(self, *names: str) -> Playground:
        for box in self.page.locator("#list input:checked").all():
            if box.get_attribute("data-task") not in names:
                box.uncheck()
        for name in names:
            self.page.locator(f"#list input[data-task='{name}']").check()
        return self

    def fill(self, **fields: str) -> Playground:
        for name, text in fields.items():
            self.page.locator("#fields").get_by_label(name, exact=True).fill(text)
        return self

    def ask(self) -> Playground:
        self.page.keyboard.press("Control+Enter")
        return self.settled()

    def settled(self) -> Playground:
        self.page.wait_for_selector("#replies :is(.reply, .problem)")
        self.page.wait_for_selector("#answers[aria-busy=false]")
        return self

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


def alone(registry: Registry, reference: str, record: dict[str, Any]) -> dict[str, Any]:
    """The answer of the one-task predictor, which shares nothing with server or page."""
    return fw.Predictor(registry.open(registry.resolve(reference)), tiny_backbone()).predict([record])[0]


def drawn_spans(page: Page) -> list[tuple[str, str]]:
    """Marked texts with their tags, outermost first; a stretch in several pieces is put together."""
    return [
        (text, label)
        for text, label in page.evaluate(
            """() => {
              const found = [], open = new Map();
              for (const mark of document.querySelectorAll(".card mark")) {
                const plain = mark.cloneNode(true);
                plain.querySelectorAll(".tag").forEach(tag => tag.remove());
                const label = mark.title.split(",")[0];
                const text = (open.get(label) ?? "") + plain.textContent;
                if ([...mark.children].some(child => child.className === "tag")) {
                  found.push([text, label]); open.delete(label);
                } else open.set(label, text);
              }
              return found;
            }"""
        )
    ]
