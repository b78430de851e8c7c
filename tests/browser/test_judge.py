"""The page on which people judge, used as a rater uses it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from emu_video.evaluation.juice.questions import QUESTIONS
from emu_video.evaluation.juice.server import make_app
from emu_video.evaluation.juice.session import Session
from emu_video.evaluation.juice.store import Answer
from emu_video.tests.evaluation.juice.conftest import folders
from playwright.sync_api import Page, Route, expect

__all__ = ["folders"]  # a fixture


@pytest.fixture
def session(folders, tmp_path) -> Session:
    return Session(*folders, tmp_path / "session", check_every=2, report=lambda _: None)


@pytest.fixture
def address(session) -> Iterator[str]:
    loop, ports = asyncio.new_event_loop(), []
    started = threading.Event()

    async def serve() -> None:
        runner = web.AppRunner(make_app(session))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def picture(page: Page, name: str) -> None:
    """Save a screenshot for somebody to look at, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_judging_with_the_keyboard_pausing_and_the_results(page, address, session):
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.fill("#name", "ann")
    page.keyboard.press("Enter")
    expect(page.locator("#example-reason")).to_have_text("Pixel sharpness")
    page.wait_for_function("document.querySelector('#example-worse').currentTime > 0")
    picture(page, "judge_training")
    page.click("#example-next")
    expect(page.locator("#example-reason")).to_have_text("Motion smoothness")
    page.click("#example-skip")

    expect(page.locator("#count")).to_have_text("0 of 5")
    page.wait_for_function("['left', 'right'].every(id => document.getElementById(id).currentTime > 0)")
    expect(page.locator("#submit")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text("0 of 5")  # no reason yet, so nothing is sent
    for key in ("1", "3", "Tab", "ArrowRight", "2"):
        page.keyboard.press(key)
    expect(page.locator("#submit")).to_be_enabled()
    picture(page, "judge_pair")
    apart = page.evaluate("Math.abs(left.currentTime - right.currentTime)")
    assert apart < 0.2
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text("1 of 5")
    (vote,) = session.store.votes()
    first = session.tasks("ann")[0]
    assert vote.answers["quality"] == (first.left, ("sharpness", "recognisable"))
    assert vote.answers["faithfulness"] == (first.right, ("temporal",))

    page.reload()  # a pause: the page goes on where it was, without the examples
    page.click("text=Begin")
    expect(page.locator("#count")).to_have_text("1 of 5")
    for done in range(2, 6):
        for key in ("ArrowLeft", "1", "Tab", "ArrowLeft", "1", "Enter"):
            page.keyboard.press(key)
        if done < 5:
            expect(page.locator("#count")).to_have_text(f"{done} of 5")
    expect(page.locator("#end")).to_be_visible()
    assert len(session.store.votes()) == 5

    page.goto(f"{address}/results")
    expect(page.locator("#raters")).to_contain_text("ann")
    picture(page, "judge_results")
    assert problems == []


def test_a_name_typed_before_the_questions_arrive_is_kept(page, address):
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/questions", hold)
    page.goto(address)
    page.fill("#name", "ann")
    page.keyboard.press("Enter")
    while not held:
        page.wait_for_timeout(10)
    expect(page.locator("#start")).to_be_visible()
    held[0].continue_()
    expect(page.locator("#example-reason")).to_have_text("Pixel sharpness")
    assert page.evaluate("localStorage.getItem('juice-name')") == "ann"


def test_the_first_click_on_a_reason_of_the_other_question_counts(page, address):
    page.goto(address)
    page.fill("#name", "ann")
    page.keyboard.press("Enter")
    page.click("#example-skip")
    for question, reason in (("faithfulness", "spatial"), ("quality", "motion")):
        page.click(f"[data-question={question}] [data-reason={reason}]")
        expect(page.locator(f"[data-question={question}] [data-reason={reason}]")).to_be_checked()
        expect(page.locator(".question.current")).to_have_attribute("data-question", question)


def test_the_reader_has_its_own_block_of_results(page, address, session):
    task = session.tasks("reader")[0]
    session.store.add("reader", task, {key: Answer("tie", ()) for key in QUESTIONS}, 0.0)
    page.goto(f"{address}/results")
    expect(page.locator("#reader h2").first).to_have_text("Which video do you prefer? (automatic judge)")
    expect(page.locator("#outcomes tr").nth(1)).to_contain_text("–")


def test_names_and_prompts_are_shown_as_text(page, address, session):
    page.goto(address)
    page.fill("#name", "<img src=x>")
    page.keyboard.press("Enter")
    page.click("#example-skip")
    expect(page.locator("#count")).to_have_text("0 of 5")
    seen = set()
    for done in range(1, 6):
        seen.add(page.text_content("#prompt"))
        for key in ("ArrowLeft", "1", "Tab", "ArrowLeft", "1", "Enter"):
            page.keyboard.press(key)
        if done < 5:
            expect(page.locator("#count")).to_have_text(f"{done} of 5")
    expect(page.locator("#end")).to_be_visible()
    assert "<b>odd & name" in seen
    page.goto(f"{address}/results")
    expect(page.locator("#raters")).to_contain_text("<img src=x>")
    assert page.locator("#raters img").count() == 0
