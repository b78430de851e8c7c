"""The page's requests: blind, complete, and safe on a network."""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from emu_video.evaluation.juice.__main__ import lan_address, listen
from emu_video.evaluation.juice.questions import QUESTIONS
from emu_video.evaluation.juice.server import make_app, rater_path, results_path
from emu_video.evaluation.juice.session import Session, find_pairs
from emu_video.evaluation.juice.store import Answer
from emu_video.evaluation.videos import read

ANSWERS = {key: {"side": "left", "reasons": [question.reasons[0].key]} for key, question in QUESTIONS.items()}


def with_client(session: Session, do: Callable[[TestClient, Any], Awaitable[Any]], **options) -> Any:
    async def run():
        app = make_app(session, **options)
        async with TestClient(TestServer(app)) as client:
            return await do(client, app)

    return asyncio.run(run())


async def post(client: TestClient, path: str, **body) -> tuple[int, dict]:
    response = await client.post(path, json=body)
    return response.status, await response.json()


def test_a_rater_answers_everything_and_the_results_follow(session, tmp_path):
    async def judge(client, _):
        _, state = await post(client, "/api/next", rater="ann")
        seen = []
        while state["task"]:
            task = state["task"]
            assert task["left"] != task["right"]
            for side in ("left", "right"):
                response = await client.get(f"/video/{task[side]}")
                assert response.status == 200
                (tmp_path / "seen.mp4").write_bytes(await response.read())
                seen.append(read(tmp_path / "seen.mp4").frames.shape)
            status, state = await post(client, "/api/vote", rater="ann", task=task["key"], answers=ANSWERS, seconds=3)
            assert status == 200, state
        results = await (await client.get("/api/results")).json()
        rows = list(csv.DictReader(io.StringIO(await (await client.get("/api/votes.csv")).text())))
        return state, seen, results, rows

    state, seen, results, rows = with_client(session, judge)
    assert (state["done"], state["total"]) == (5, 5)  # three pairs, a repeat and a known answer
    assert set(seen) == {(8, 48, 48, 3)}  # one size, rate and length for both folders
    assert results["outcomes"]["quality"]["pairs"] == 3
    assert {row["name"] for row in rows} == set(session.pairs) and len(rows) == 5
    chosen = {row["name"]: row["quality_arm"] for row in rows if row["kind"] == "pair"}
    assert chosen == {task.name: task.left for task in session.tasks("ann") if task.kind == "pair"}


def test_nothing_that_a_rater_gets_names_the_folders(session):
    async def judge(client, _):
        _, state = await post(client, "/api/next", rater="ann")
        pages = [await (await client.get(path)).text() for path in ("/", "/judge.js", "/api/questions")]
        return str(state) + "".join(pages)

    text = with_client(session, judge)
    assert "ours" not in text.split() and str(session.folder) not in text
    assert all(arm not in text for arm in session.arms.values())


def test_prompts_come_from_text_files_or_names(session):
    assert {name: pair.prompt for name, pair in session.pairs.items()} == {
        "cat": "a cat jumps", "dog": "dog", "<b>odd & name": "<b>odd & name",
    }  # fmt: skip


def test_pairs_of_one_prompt_are_known(tmp_path):
    for name, text in (("cat_0", ""), ("cat_1", ""), ("x", "a dog runs"), ("y", "a dog runs")):
        for arm in ("ours", "theirs"):
            (tmp_path / arm).mkdir(exist_ok=True)
            (tmp_path / arm / f"{name}.mp4").write_bytes(b"")
        if text:
            (tmp_path / "ours" / f"{name}.txt").write_text(text)
    pairs, lacking = find_pairs(tmp_path / "ours", tmp_path / "theirs", {})
    assert {name: pair.group for name, pair in pairs.items()} == {
        "cat_0": "cat", "cat_1": "cat", "x": "a dog runs", "y": "a dog runs",
    }  # fmt: skip
    assert lacking == [] and pairs["cat_0"].prompt == "cat 0"


def test_names_that_only_one_folder_has_are_said(folders, tmp_path):
    lines: list[str] = []
    Session(*folders, tmp_path / "session", report=lines.append)
    assert lines[0] == "Left out, because one folder lacks them: alone."


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rater": ""}, "Write your name"),
        ({"rater": "x" * 41}, "Write your name"),
        ({"rater": "a\u0000b"}, "printable"),
        ({"rater": " Reader"}, "that of the automatic judge"),
        ({"rater": 5}, "as text"),
        ({}, "needs rater"),
    ],
)
def test_bad_names(session, body, words):
    async def ask(client, _):
        return await post(client, "/api/next", **body)

    status, answer = with_client(session, ask)
    assert status == 400 and words in answer["error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "pair:nobody"}, "no task"),
        ({"answers": {}}, "has no answer"),
        ({"answers": {**ANSWERS, "quality": {"side": "middle", "reasons": ["motion"]}}}, "has no answer"),
        ({"answers": {**ANSWERS, "quality": {"side": "tie", "reasons": []}}}, "has no answer"),
        ({"answers": {**ANSWERS, "quality": {"side": "left", "reasons": []}}}, "has no reason"),
        ({"answers": {**ANSWERS, "quality": "left"}}, "a side and a list"),
        ({"answers": ["left"]}, "has no answer"),
    ],
)
def test_bad_votes_are_refused_and_not_kept(session, changes, words):
    async def vote(client, _):
        _, state = await post(client, "/api/next", rater="ann")
        body = {"rater": "ann", "task": state["task"]["key"], "answers": ANSWERS} | changes
        return await post(client, "/api/vote", **body)

    status, answer = with_client(session, vote)
    assert status == 400 and words in answer["error"]
    assert session.store.votes() == []


def test_requests_that_are_not_json_or_too_large(session):
    async def ask(client, _):
        form = await client.post("/api/vote", data={"rater": "ann"})
        broken = await client.post("/api/vote", data=b"{", headers={"Content-Type": "application/json"})
        large = await client.post("/api/vote", data=b"[" * 100_000, headers={"Content-Type": "application/json"})
        return form.status, broken.status, large.status

    assert with_client(session, ask) == (400, 400, 413)


@pytest.mark.parametrize(
    "path", ["/video/../votes.sqlite", "/video/%2e%2e%2fvotes.sqlite", "/video/x", "/../../etc/passwd"]
)
def test_no_file_outside_the_prepared_videos(session, path):
    async def ask(client, _):
        return (await client.get(path)).status

    assert with_client(session, ask) == 404


def test_on_a_lan_raters_need_a_token_and_results_another_one(session):
    async def ask(client, app):
        paths = ["/", "/?token=guess", "/api/results"]
        outside = [(await client.get(path)).status for path in paths]
        rater = [(await client.get(rater_path(app))).status]
        rater += [(await client.get(path)).status for path in ("/judge.js", "/results", "/api/votes.csv")]
        owner = [(await client.get(results_path(app))).status, (await client.get("/api/votes.csv")).status]
        return outside, rater, owner

    outside, rater, owner = with_client(session, ask, on_lan=True)
    assert outside == [403, 403, 403]
    assert rater == [200, 200, 403, 403]
    assert owner == [200, 200]


def test_the_owner_may_vote_in_the_same_browser(session):
    async def ask(client, app):
        for path in (results_path(app), rater_path(app)):
            assert (await client.get(path)).status == 200
        return (await client.get("/api/votes.csv")).status

    assert with_client(session, ask, on_lan=True) == 200


def test_a_port_that_is_taken_is_said_at_once():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ValueError, match=f"Port {port} cannot be used .*--port"):
            listen("127.0.0.1", port)


def test_spreadsheets_get_no_formulas(session):
    async def vote(client, _):
        _, state = await post(client, "/api/next", rater="=1+1")
        await post(client, "/api/vote", rater="=1+1", task=state["task"]["key"], answers=ANSWERS)
        return await (await client.get("/api/votes.csv")).text()

    assert "'=1+1" in with_client(session, vote)


def test_two_raters_have_their_own_tasks(session):
    async def judge(client, _):
        _, first = await post(client, "/api/next", rater="ann")
        _, second = await post(client, "/api/next", rater="bob")
        await post(client, "/api/vote", rater="ann", task=first["task"]["key"], answers=ANSWERS)
        _, after = await post(client, "/api/next", rater="bob")
        return second, after

    second, after = with_client(session, judge)
    assert after["task"]["key"] == second["task"]["key"] and after["done"] == 0


def test_a_rater_goes_on_under_the_same_name_in_other_letters(session):
    async def judge(client, _):
        _, first = await post(client, "/api/next", rater="Zo\u00eb")
        await post(client, "/api/vote", rater="Zo\u00eb", task=first["task"]["key"], answers=ANSWERS)
        _, after = await post(client, "/api/next", rater="zoe\u0308")
        status, last = await post(client, "/api/vote", rater="ZO\u00cb", task=after["task"]["key"], answers=ANSWERS)
        return after, status, last

    after, status, last = with_client(session, judge)
    assert after["done"] == 1 and status == 200 and last["done"] == 2
    assert {vote.rater for vote in session.store.votes()} == {"Zo\u00eb"}


def test_neither_folder_is_always_the_better_one_of_examples_and_checks(folders, tmp_path):
    """The squares of one folder are red, those of the other green."""
    for number in range(12):
        for folder in folders:
            shutil.copy(folder / "cat.mp4", folder / f"more{number}.mp4")
    session = Session(*folders, tmp_path / "session", check_every=1, report=lambda _: None)

    def colour(path):
        return int(read(path).frames.max((0, 1, 2)).argmax())

    def sources(rater):
        for task in session.tasks(rater):
            if task.kind == "known":
                intact, spoiled = (session.video(task, "left" if task.left == arm else "right") for arm in ("a", "b"))
                assert intact != spoiled and colour(intact) == colour(spoiled)
                yield colour(intact)

    assert set(sources("ann")) == {0, 1}
    examples = session.examples()
    assert {colour(session.shown[each["better"]]) for each in examples} == {0, 1}
    for each in examples:
        if "colour" not in each["explanation"]:
            better, worse = (read(session.shown[each[side]]).frames for side in ("better", "worse"))
            assert better.shape == worse.shape and not (better == worse).all()


def test_votes_on_other_prompts_are_not_mixed(folders, tmp_path):
    first = Session(*folders, tmp_path / "session", report=lambda _: None)
    task, _, _ = first.next_task("ann")
    first.store.add("ann", task, {key: Answer("a", (q.reasons[0].key,)) for key, q in QUESTIONS.items()}, 1.0)
    first.store.close()
    (folders[0] / "cat.txt").write_text("a cat sleeps")
    with pytest.raises(ValueError, match=r"another comparison \(different: prompts\)"):
        Session(*folders, tmp_path / "session", report=lambda _: None)


def test_a_session_goes_on_after_a_restart(folders, tmp_path):
    options = {"check_every": 2, "report": lambda _: None}
    first = Session(*folders, tmp_path / "session", **options)
    task, _, _ = first.next_task("ann")

    async def vote(client, _):
        return await post(client, "/api/vote", rater="ann", task=task.key, answers=ANSWERS)

    with_client(first, vote)
    first.store.close()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "session" / "videos").iterdir()}
    again = Session(*folders, tmp_path / "session", **options)
    assert again.next_task("ann")[1] == 1
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_folders_without_common_names(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no video"):
        Session(folders[0], tmp_path / "empty", tmp_path / "session")
    with pytest.raises(ValueError, match="not a folder"):
        Session(folders[0], tmp_path / "nowhere", tmp_path / "session")


def test_a_replaced_video_is_prepared_again_while_there_are_no_votes(folders, tmp_path):
    options = {"check_every": 0, "report": lambda _: None}
    (folders[1] / "cat.mp4").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        Session(*folders, tmp_path / "session", **options)
    shutil.copy(folders[1] / "dog.mp4", folders[1] / "cat.mp4")
    assert len(Session(*folders, tmp_path / "session", **options).pairs) == 3
    with pytest.raises(ValueError, match="--check-every is -1: use 0 for none"):
        Session(*folders, tmp_path / "session", check_every=-1)


def test_the_printed_address_is_of_the_network(monkeypatch):
    """Phones do not know the names of computers."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: None)
    monkeypatch.setattr(socket.socket, "getsockname", lambda _: ("192.168.0.7", 50000))
    assert lan_address() == "192.168.0.7"

    def unreachable(*_):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    assert lan_address() == socket.gethostname()
