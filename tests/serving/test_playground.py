"""The playground in a real browser, asking a real server with tiny models."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import foreword as fw
from chromium import chromium
from foreword.data.spans import word_spans
from foreword.registry import Registry
from foreword.serving.keys import Caller, Keys
from serving_at import Served, canary, served
from tiny import tiny_backbone
from tiny_artifacts import TASKS, tiny_artifact

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

KINDS = [kind for kind in TASKS if kind != "probing"]  # which needs a language model
EVIL = "<img src=x onerror=alert(1)>"
TEXT = "🎉 Anna Smith visited “New” London 👩‍👩‍👧 with Peter."
KEY = "a-key-that-is-not-guessed"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A task of every kind, one of them in three versions, and one whose labels are up to no good."""
    folder = tmp_path_factory.mktemp("playground")
    registry = Registry(folder / "registry", create=True)
    for kind in KINDS:
        registry.add(tiny_artifact(kind), kind)
    for method in ("prefix-tuning", "prompt-tuning"):
        registry.add(tiny_artifact("classification", method), "classification")
    registry.set_alias("classification", "champion", 2)
    registry.add(canary(EVIL, 1, folder / "evil"), "evil")
    return registry


@pytest.fixture(scope="module")
def server(registry: Registry) -> Iterator[Served]:
    with served(registry) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


class Playground:
    """The page as a person uses it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.elsewhere: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append("a dialog"), dialog.dismiss()))
        page.on("console", lambda line: "Security Policy" in line.text and self.faults.append(line.text))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.elsewhere.append(request.url)
        if request.url.endswith("/v1/predict"):
            self.asked.append(request.post_data_json)

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


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Any]:
    """Makes pages; none of them may fail, break the policy or ask anybody else."""
    made: list[Playground] = []

    def make(url: str, **settings: Any) -> Playground:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings}).new_page()
        page.set_default_timeout(60_000)
        made.append(Playground(page, url))
        return made[-1]

    yield make
    for one in made:
        one.page.context.close()
        assert (one.faults, one.elsewhere) == ([], [])


@pytest.fixture
def playground(new_page: Any, server: Served) -> Playground:
    return new_page(server.url).open()


def alone(registry: Registry, reference: str, record: dict[str, Any]) -> dict[str, Any]:
    """The answer of the one-task predictor, which shares nothing with server or page."""
    return fw.Predictor(registry.open(registry.resolve(reference)), tiny_backbone()).predict([record])[0]


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


class TestAnswers:
    def test_labels_with_their_probabilities_the_highest_first(self, playground: Playground, registry: Registry):
        playground.choose("classification").fill(text=TEXT).ask()
        answer = alone(registry, "classification", {"text": TEXT})
        shares = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
        assert playground.text(".card .big") == answer["label"]
        assert playground.texts(".card .bars bdi") == [label for label, _ in shares]
        shown = [float(text.rstrip("%")) for text in playground.texts(".card .bars .value")]
        assert shown == pytest.approx([100 * share for _, share in shares], abs=0.11)
        widths = playground.page.eval_on_selector_all(".card .fill", "nodes => nodes.map(n => parseFloat(n.style.width))")
        assert widths == pytest.approx([100 * share for _, share in shares], abs=0.01)

    def test_who_answered_and_how_long_it_took(self, playground: Playground, registry: Registry, server: Served):
        playground.choose("classification").ask()
        version = registry.resolve("classification")
        card, reply = playground.text(".card footer"), playground.text(".reply > .facts")
        assert version.reference in card
        assert version.digest[:12] in card
        assert server.engine.backbone.identity.weights[:12] in card
        for word in ("Round trip", "In the server", "Forward", "Queue", "1 row of 1 task", "Request"):
            assert word in reply
        assert playground.text("#status").startswith("1 answer in ")

    @pytest.mark.parametrize(("task", "key", "label"), [("ner", "entities", "type"), ("srl", "roles", "role")])
    def test_stretches_are_marked_where_they_are(self, playground, registry, task, key, label):
        """Offsets count code points, and the text has characters that JavaScript counts twice."""
        playground.choose(task).fill(text=TEXT)
        if task == "srl":
            playground.page.locator(".words label", has_text="visited").click()
        playground.ask()
        record = {"text": TEXT} | ({"predicate": 3} if task == "srl" else {})
        answer = alone(registry, task, record)
        expected = [(TEXT[one["start"] : one["end"]], one[label]) for one in answer[key]]
        expected += [(TEXT[one["start"] : one["end"]], "predicate") for one in answer.get("predicate", ())]
        assert ("visited", "predicate") in expected or task == "ner"
        assert sorted(drawn_spans(playground.page)) == sorted(expected)
        assert len(expected) > 1
        assert set(playground.texts(".legend bdi")) == {name for _, name in expected}

    def test_the_answer_is_marked_in_its_context(self, playground: Playground, registry: Registry):
        record = {"question": "Who visited London?", "context": TEXT + " Anna Smith came too."}
        playground.choose("qa").fill(**record).page.get_by_text("Options").click()
        playground.page.get_by_label("Other answers to list").fill("3")
        playground.ask()
        answer = alone(registry, "qa", record)
        assert playground.text(".card .big") == (answer["answer"] or "no answer")
        if answer["answer"] is not None:
            assert drawn_spans(playground.page) == [(answer["answer"], "answer")]
            before = playground.page.evaluate("document.querySelector('mark').previousSibling?.textContent ?? ''")
            assert before == record["context"][: answer["start"]]
        assert playground.asked[-1]["options"] == {"candidates": 3}
        assert len(playground.texts(".card div > .bars li")) == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_task_is_drawn_from_its_example(self, playground: Playground, kind: str):
        """What nobody thought of would be shown as JSON."""
        playground.choose(kind).ask()
        assert playground.page.locator(".problem").count() == 0
        assert playground.page.locator(".card").count() == 1
        assert playground.page.locator(".card > pre").count() == 0
        assert playground.page.locator(".card :is(.big, .text, .bars)").count() > 0

    def test_answers_of_other_models_are_drawn_too(self, playground: Playground):
        """Kinds that no tiny encoder has: written texts, words, and what is not known yet."""
        shown = playground.page.evaluate(
            """answers => answers.map(answer => drawn(answer, {}, {}).map(node => node.textContent).join(" | "))""",
            [
                {"id": "0", "text": "It rains."},
                {"id": "0", "text": ""},
                {"id": "0", "label": None, "text": "some"},
                {"id": "0", "label": "yes", "text": "yes"},
                {"id": "0", "word": "paris", "probability": 0.5},
                {"id": "0", "answer": None, "start": None, "end": None, "probability": 0.25},
                {"id": "0", "labels": [], "probabilities": {"a": 0.1}},
                {"id": "0", "text": "Nobody", "entities": []},
                {"id": "0", "image": 3},
            ],
        )
        assert shown == [
            "It rains.",
            "nothing was written",
            "no label | some",
            "yes | yes",
            "paris | paris50.0%",
            "no answer | no answer25.0%",
            "no label | a10.0%",
            "Nobody | Nothing was found in it.",
            '{\n  "id": "0",\n  "image": 3\n}',
        ]

    def test_several_tasks_are_asked_of_one_text_at_once(self, playground: Playground, registry: Registry):
        playground.choose("ner", "classification", "evil").fill(text="Peter was in London").ask()
        assert playground.asked == [
            {"tasks": ["classification", "ner", "evil"], "inputs": [{"text": "Peter was in London"}]}
        ]
        assert playground.texts(".card h3") == ["classification", "ner", "evil"]
        assert playground.texts(".card .big")[0] == alone(registry, "classification", {"text": "Peter was in London"})["label"]

    def test_tasks_that_read_other_fields_are_asked_in_the_same_request(self, playground: Playground):
        playground.choose("classification", "qa").fill(text="one", question="two?", context="three").ask()
        assert playground.asked == [
            {
                "inputs": [
                    {"task": "classification", "text": "one"},
                    {"task": "qa", "question": "two?", "context": "three"},
                ]
            }
        ]
        assert playground.page.locator(".card").count() == 2

    def test_versions_answer_as_an_ensemble(self, playground: Playground, registry: Registry):
        playground.choose("classification", "evil").fill(text=TEXT).page.locator(".versions summary").click()
        playground.page.locator(".picks input[value='1']").check()
        playground.page.get_by_label("How versions of classification vote").select_option("majority")
        playground.ask()
        members = ["classification:1", "classification:3"]
        assert sorted(playground.asked, key=str) == [
            {"ensemble": {"members": members, "vote": "majority"}, "inputs": [{"text": TEXT}]},
            {"task": "evil", "inputs": [{"text": TEXT}]},
        ]
        answers = [alone(registry, member, {"text": TEXT}) for member in members]
        rows = [row.split("\t") for row in playground.texts(".card tbody tr")]
        assert [row[:2] for row in rows] == [["1", answers[0]["label"]], ["3", answers[1]["label"]]]
        assert [row[3] for row in rows] == [registry.resolve(member).digest[:12] for member in members]
        agreement = percent(1.0 if answers[0]["label"] == answers[1]["label"] else 0.5)
        card = playground.page.locator(".card", has_text="2 versions")
        assert card.locator(".bars li", has_text="Agreement").locator(".value").inner_text() == agreement

    def test_one_other_version(self, playground: Playground):
        playground.choose("classification").page.locator(".versions summary").click()
        playground.page.locator(".picks input[value='3']").uncheck()
        playground.page.locator(".picks label", has_text="champion").click()
        playground.ask()
        assert playground.asked[-1]["task"] == "classification:2"
        assert "classification:2" in playground.text(".card footer")


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


class TestMarks:
    def test_stretches_that_overlap_are_all_there_and_the_text_is_whole(self, playground: Playground):
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
                else for (const child of node.childNodes) walk(child, node.tagName === "MARK" ? [...over, node.title] : over);
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

    def test_words_to_choose_from_are_those_that_the_server_counts(self, playground: Playground):
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

    def test_labels_beyond_the_colours_differ_in_their_lines(self, playground: Playground):
        looks = playground.page.evaluate(
            """() => { const spans = Array.from({length: 24}, (_, n) => ({start: n, end: n + 1, label: `L${n}`}));
              return [...marked("x".repeat(24), spans, null)[0].querySelectorAll("mark")].map(mark => mark.className); }"""
        )
        assert len(set(looks)) == 24


class TestSafety:
    def test_texts_and_labels_are_never_read_as_markup(self, playground: Playground):
        playground.choose("evil", "ner").fill(text=EVIL).ask()
        assert EVIL in playground.text(".card .big")
        assert playground.page.locator("img").count() == 0
        assert EVIL in playground.page.locator(".card .text").evaluate(
            "node => { const copy = node.cloneNode(true); copy.querySelectorAll('.tag').forEach(t => t.remove()); return copy.textContent }"
        )

    def test_the_policy_lets_nothing_else_run(self, playground: Playground, server: Served):
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

    def test_a_key_is_asked_for_and_kept_in_memory_only(self, registry: Registry, new_page: Any):
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


class TestTrouble:
    def test_problems_are_told_in_words_with_the_request(self, playground: Playground):
        playground.choose("qa").fill(question="?", context="x " * 150_000).ask()
        problem = playground.text(".problem")
        assert "The text is too long" in problem
        assert "input.too-long" in problem
        assert playground.text("#status") == "The text is too long."
        assert len(playground.page.locator(".problem dd").last.inner_text()) == 32

    def test_one_task_that_fails_leaves_the_others_their_answers(self, playground: Playground):
        playground.choose("classification", "regression", "multiple-choice").fill(text="a", choices="only one").ask()
        assert playground.texts(".card h3") == ["classification", "regression"]
        assert "The task cannot read this input" in playground.text(".problem")
        assert "2 answers" in playground.text("#status")
        assert "1 failed" in playground.text("#status")

    def test_members_that_do_not_fit_one_another(self, playground: Playground):
        playground.page.route(
            "**/v1/predict",
            lambda route: problem(route, 429, "busy", "Too much is waiting.", {"Retry-After": "7"}),
        )
        playground.ask()
        assert "The server is busy" in playground.text(".problem")
        assert "Try again in 7 seconds." in playground.text(".problem")

    @pytest.mark.parametrize("body", ["<h1>Bad Gateway</h1>", "3", ""])
    def test_what_is_no_problem_of_ours_is_told_too(self, playground: Playground, body: str):
        playground.page.route("**/v1/predict", lambda route: route.fulfill(status=502, body=body))
        playground.ask()
        assert "status 502" in playground.text(".problem")

    def test_a_server_that_is_gone(self, registry: Registry, new_page: Any):
        with served(registry) as server:
            page = new_page(server.url).open()
        page.ask()
        assert "The server cannot be reached" in page.text(".problem")
        page.page.locator("#reload").click()
        page.page.wait_for_selector("#notice:not([hidden])")
        assert "cannot be reached" in page.text("#notice")
        page.page.route("**/v1/tasks", lambda route: route.fulfill(json={"model": {}, "tasks": []}))
        page.page.get_by_role("button", name="Try again").click()
        page.page.wait_for_selector("#notice:has-text('No task is published')")
        assert "foreword registry add" in page.text("#notice")

    def test_what_takes_too_long_can_be_stopped(self, playground: Playground, server: Served):
        server.engine.gate.clear()
        try:
            playground.page.get_by_role("button", name="Ask", exact=True).click()
            playground.page.get_by_role("button", name="Stop").click()
            playground.page.wait_for_selector("#status:has-text('Stopped')")
        finally:
            server.engine.gate.set()
        assert playground.ask().page.locator(".card").count() == 1

    def test_fields_that_cannot_be_read_are_pointed_at_and_nothing_is_sent(self, playground: Playground):
        playground.choose("multirc").fill(passage="{")
        playground.page.keyboard.press("Control+Enter")
        assert "Not JSON" in playground.text(".wrong")
        assert playground.page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
        playground.choose("qa").fill(question=" ")
        playground.page.keyboard.press("Control+Enter")
        assert "This field is needed." in playground.texts(".wrong")
        assert playground.asked == []

    def test_words_may_stand_for_a_text(self, playground: Playground):
        playground.choose("ner").fill(text="").page.get_by_text("1 more field").click()
        playground.fill(tokens='["Anna", "was", "here"]').ask()
        assert playground.asked == [{"task": "ner", "inputs": [{"tokens": ["Anna", "was", "here"]}]}]
        assert playground.page.locator(".card").count() == 1


def problem(route: Route, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
    body = {"title": "t", "status": status, "code": code, "detail": detail, "request_id": "r"}
    route.fulfill(status=status, body=json.dumps(body), headers=headers, content_type="application/problem+json")


class TestUse:
    def test_by_keyboard_alone(self, playground: Playground):
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

    def test_everything_that_takes_focus_has_a_name_and_shows_it(self, playground: Playground):
        playground.choose(*KINDS).ask()
        playground.page.eval_on_selector_all("details", "nodes => nodes.forEach(node => node.open = true)")
        nameless = playground.page.evaluate(
            """() => [...document.querySelectorAll("input, textarea, select, button, summary, a")].filter(node => {
              const name = node.getAttribute("aria-label") || [...(node.labels ?? [])].map(l => l.textContent).join("") || node.textContent;
              return node.checkVisibility() && !name.trim(); }).map(node => node.outerHTML)"""
        )
        assert nameless == []
        ids = playground.page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
        assert len(ids) == len(set(ids))
        playground.page.keyboard.press("Tab")
        assert playground.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"

    def test_hundreds_of_tasks_can_be_searched(self, playground: Playground):
        def many(route: Route) -> None:
            listed = route.fetch().json()
            one = next(task for task in listed["tasks"] if task["task"] == "classification")
            listed["tasks"] = [one | {"task": f"task-{n}", "kind": "ner" if n == 7 else "qa"} for n in range(1000)]
            route.fulfill(json=listed)

        playground.page.route("**/v1/tasks", many)
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

    def test_texts_that_were_typed_stay_when_tasks_change(self, playground: Playground):
        playground.choose("classification").fill(text="mine").choose("ner")
        field = playground.page.locator("#fields").get_by_label("text", exact=True)
        assert field.input_value() == "mine"
        playground.page.get_by_role("button", name="Back to the example").click()
        assert field.input_value() == "Anna Smith liked London."

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_what_is_copied_gives_the_same_answer(self, playground: Playground, server: Served):
        playground.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        playground.choose("classification", "qa").fill(text="it's $HOME \\ `x` \"y\" 🎉", question="Who's it?").ask()
        playground.page.get_by_role("button", name="Copy as curl").click()
        playground.page.wait_for_selector("#copied:has-text('Copied')")
        command = playground.page.evaluate("navigator.clipboard.readText()")
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
        answers = [result["answer"] for result in json.loads(done.stdout)["results"]]
        assert [answers[0]["label"], answers[1]["answer"] or "no answer"] == playground.texts(".card .big")
        assert server.url in command

    def test_without_a_clipboard_the_command_is_shown(self, playground: Playground):
        playground.page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        playground.page.get_by_role("button", name="Copy as curl").click()
        assert playground.page.get_by_label("Copy this command").input_value().startswith("curl 'http://127.0.0.1")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1280])
    def test_it_fits_the_window_and_can_be_read(self, new_page: Any, server: Served, scheme: str, width: int):
        page = new_page(server.url, viewport={"width": width, "height": 700}, color_scheme=scheme).open()
        page.choose(*KINDS).fill(text=f"{TEXT} {'x' * 200}").ask()
        page.page.eval_on_selector_all("details", "nodes => nodes.forEach(node => node.open = true)")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.page.evaluate(FAINT) == []


FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colors) => { canvas.clearRect(0, 0, 1, 1); for (const c of colors) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (rgb) => { const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const faint = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("script, noscript, option, .unseen, :disabled")) continue;
    const grounds = [];
    for (let up = node; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const back = light(over(["white", ...grounds])), front = light(over(["white", ...grounds, getComputedStyle(node).color]));
    const ratio = (Math.max(back, front) + .05) / (Math.min(back, front) + .05);
    if (ratio < 4.5) faint.add(`${node.outerHTML.slice(0, 60)}: ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""
"""Texts whose contrast with what is behind them is less than WCAG 2.2 asks for (1.4.3, level AA)."""


def test_the_page_asks_for_nothing_else():
    """Not even where a browser would not show it."""
    page = (Path(fw.__file__).parent / "serving" / "playground" / "index.html").read_text("utf-8")
    assert "innerHTML" not in page
    assert "http://" not in page
    assert "https://" not in page
