"""By keyboard, by eye, on any screen, with any number of tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from playground_page import KINDS, TEXT, Playground
from serving_at import Served

if TYPE_CHECKING:
    from playwright.sync_api import Route


def test_by_keyboard_alone(playground: Playground):
    press = playground.page.keyboard.press
    focused = "document.activeElement"
    for _ in range(20):
        press("Tab")
        if playground.page.evaluate(f"{focused}.dataset.task") is not None:
            break
    assert playground.page.evaluate(f"{focused}.dataset.task") == "classification"
    press("Space")
    press("End")
    last = playground.page.evaluate(f"{focused}.dataset.task")
    assert last == sorted([*KINDS, "evil"])[-1]
    press("Home")
    press("ArrowDown")
    press("Space")
    assert playground.page.evaluate(f"{focused}.dataset.task") == "evil"
    for _ in range(20):
        press("Tab")
        if playground.page.evaluate(f"{focused}.tagName") == "TEXTAREA":
            break
    press("Control+A")
    playground.page.keyboard.type("Peter was in London")
    playground.ask()
    assert playground.asked == [{"task": "evil", "inputs": [{"text": "Peter was in London"}]}]
    assert playground.text("#status").startswith("1 answer in ")
    assert playground.page.locator("#status").get_attribute("role") == "status"


def test_everything_that_takes_focus_has_a_name_and_shows_it(playground: Playground):
    playground.choose(*KINDS).ask()
    playground.page.eval_on_selector_all("details", "nodes => nodes.forEach(node => node.open = true)")
    nameless = playground.page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, select, button, summary, a")].filter(node => {
          const labels = [...(node.labels ?? [])].map(label => label.textContent).join("");
          const name = node.getAttribute("aria-label") || labels || node.textContent;
          return node.checkVisibility() && !name.trim(); }).map(node => node.outerHTML)"""
    )
    assert nameless == []
    ids = playground.page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
    assert len(ids) == len(set(ids))
    playground.page.keyboard.press("Tab")
    assert playground.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_hundreds_of_tasks_can_be_searched(playground: Playground):
    def many(route: Route) -> None:
        listed = route.fetch().json()
        one = next(task for task in listed["tasks"] if task["task"] == "classification")
        listed["tasks"] = [one | {"task": f"task-{n}", "kind": "ner" if n == 7 else "qa"} for n in range(1000)]
        route.fulfill(json=listed)

    playground.stand_in("/v1/tasks", many)
    playground.open()
    assert "1,000 tasks" in playground.text("#model")
    assert playground.page.locator("#list input[tabindex='0']").count() == 1
    search = playground.page.get_by_label("Search tasks")
    search.fill("TASK-99")
    assert playground.texts("#list b") == ["task-99", *(f"task-{n}" for n in range(990, 1000))]
    assert playground.text("#count") == "11 of 1,000 tasks"
    search.fill("ner 7")
    assert playground.texts("#list b") == ["task-7"]
    search.fill("zebra")
    assert playground.text("#count") == "No task has these words."


def test_texts_that_were_typed_stay_when_tasks_change(playground: Playground):
    playground.choose("classification").fill(text="mine").choose("ner")
    field = playground.page.locator("#fields").get_by_label("text", exact=True)
    assert field.input_value() == "mine"
    playground.page.get_by_role("button", name="Back to the example").click()
    assert field.input_value() == "Anna Smith liked London."


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_is_copied_gives_the_same_answer(playground: Playground, server: Served):
    playground.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    playground.choose("classification", "qa").fill(text='it\'s $HOME \\ `x` "y" 🎉', question="Who's it?").ask()
    playground.page.get_by_role("button", name="Copy as curl").click()
    playground.page.wait_for_selector("#copied:has-text('Copied')")
    command = playground.page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
    answers = [result["answer"] for result in json.loads(done.stdout)["results"]]
    assert [answers[0]["label"], answers[1]["answer"] or "no answer"] == playground.texts(".card .big")
    assert server.url in command


def test_without_a_clipboard_the_command_is_shown(playground: Playground):
    playground.page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    playground.page.get_by_role("button", name="Copy as curl").click()
    assert playground.page.get_by_label("Copy this command").input_value().startswith("curl 'http://127.0.0.1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_window_and_can_be_read(new_page: Any, server: Served, scheme: str, width: int):
    page = new_page(server.url, viewport={"width": width, "height": 700}, color_scheme=scheme).open()
    page.choose(*KINDS).fill(text=f"{TEXT} {'x' * 200}").ask()
    page.page.eval_on_selector_all("details", "nodes => nodes.forEach(node => node.open = true)")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.page.evaluate(FAINT) == []


FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
  const light = (colors) => {
    const [red, green, blue] = over(colors).map(part => linear(part / 255));
    return .2126 * red + .7152 * green + .0722 * blue;
  };
  const faint = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, grounds = [];
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest("script, noscript, option, .unseen, :disabled")) continue;
    for (let up = node; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const pair = [light(["white", ...grounds]), light(["white", ...grounds, getComputedStyle(node).color])];
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) faint.add(`${node.outerHTML.slice(0, 60)}: ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""
"""Texts whose contrast with what is behind them is less than WCAG 2.2 asks for (1.4.3, level AA)."""
