"""What goes wrong is told in words, with what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from foreword.registry import Registry
from playground_page import Playground
from serving_at import Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Route


def test_problems_are_told_in_words_with_the_request(playground: Playground):
    playground.choose("qa").fill(question="?", context="x " * 150_000).ask()
    problem = playground.text(".problem")
    assert "The text is too long" in problem
    assert "input.too-long" in problem
    assert playground.text("#status") == "The text is too long."
    assert len(playground.page.locator(".problem dd").last.inner_text()) == 32


def test_one_task_that_fails_leaves_the_others_their_answers(playground: Playground):
    playground.choose("classification", "regression", "multiple-choice").fill(text="a", choices="only one").ask()
    assert playground.texts(".card h3") == ["classification", "regression"]
    assert "The task cannot read this input" in playground.text(".problem")
    assert "2 answers" in playground.text("#status")
    assert "1 failed" in playground.text("#status")


def test_a_busy_server_says_when_to_try_again(playground: Playground):
    playground.stand_in(
        "/v1/predict",
        lambda route: problem(route, 429, "busy", "Too much is waiting.", {"Retry-After": "7"}),
    )
    playground.ask()
    assert "The server is busy" in playground.text(".problem")
    assert playground.texts(".problem .facts div")[0].split() == ["Try", "again", "in", "7", "seconds"]


@pytest.mark.parametrize("body", ["<h1>Bad Gateway</h1>", "3", ""])
def test_what_is_no_problem_of_ours_is_told_too(playground: Playground, body: str):
    playground.stand_in("/v1/predict", lambda route: route.fulfill(status=502, body=body))
    playground.ask()
    assert "status 502" in playground.text(".problem")


def test_a_server_that_is_gone(registry: Registry, new_page: Any):
    with served(registry) as server:
        page = new_page(server.url).open()
    page.ask()
    assert "The server cannot be reached" in page.text(".problem")
    page.page.locator("#reload").click()
    page.page.wait_for_selector("#notice:not([hidden])")
    assert "cannot be reached" in page.text("#notice")
    page.stand_in("/v1/tasks", lambda route: route.fulfill(json={"model": {}, "tasks": []}))
    page.page.get_by_role("button", name="Try again").click()
    page.page.wait_for_selector("#notice:has-text('No task is published')")
    assert "foreword registry add" in page.text("#notice")


def test_what_takes_too_long_can_be_stopped(playground: Playground, server: Served):
    server.engine.gate.clear()
    try:
        playground.page.get_by_role("button", name="Ask", exact=True).click()
        playground.page.get_by_role("button", name="Stop").click()
        playground.page.wait_for_selector("#status:has-text('Stopped')")
    finally:
        server.engine.gate.set()
    assert playground.ask().page.locator(".card").count() == 1


def test_fields_that_cannot_be_read_are_pointed_at_and_nothing_is_sent(playground: Playground):
    playground.choose("multirc").fill(passage="{")
    playground.page.keyboard.press("Control+Enter")
    assert "Not JSON" in playground.text(".wrong")
    assert playground.page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    playground.choose("qa").fill(question=" ")
    playground.page.keyboard.press("Control+Enter")
    assert "This field is needed." in playground.texts(".wrong")
    assert playground.asked == []


def test_words_may_stand_for_a_text(playground: Playground):
    playground.choose("ner").fill(text="").page.get_by_text("1 more field").click()
    playground.fill(tokens='["Anna", "was", "here"]').ask()
    assert playground.asked == [{"task": "ner", "inputs": [{"tokens": ["Anna", "was", "here"]}]}]
    assert playground.page.locator(".card").count() == 1


def problem(route: Route, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
    body = {"title": "t", "status": status, "code": code, "detail": detail, "request_id": "r"}
    route.fulfill(status=status, body=json.dumps(body), headers=headers, content_type="application/problem+json")
