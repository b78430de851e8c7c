"""Web server with the page for judging pairs of videos, and the results: on this machine, or on a LAN with a token."""

from __future__ import annotations

import csv
import io
import secrets
import unicodedata
from pathlib import Path
from typing import Any

from aiohttp import web

from .questions import QUESTIONS
from .session import Session
from .statistics import summary
from .store import READER, Answer

PAGE = Path(__file__).parent / "page"
MOST_BYTES = 64 * 1024
"""Largest accepted request."""
MOST_NAME = 40
"""Characters of a rater's name."""
COOKIE = "judge_token"
OWNER_PATHS = ("/results", "/api/results", "/api/votes.csv", "/api/votes.json")

SESSION = web.AppKey("session", Session)
TOKENS = web.AppKey("tokens", dict)


def make_app(session: Session, *, on_lan: bool = False) -> web.Application:
    """Return the web application.

    Args:
        on_lan: raters need the token of `rater_path`, and the results need that of `results_path`. Without it anyone on
            this machine has both.
    """
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[_errors, _guard])
    app[SESSION] = session
    app[TOKENS] = {"rater": secrets.token_urlsafe(12), "owner": secrets.token_urlsafe(12)} if on_lan else {}
    app.add_routes(
        [
            web.get("/", _file("judge.html")),
            web.get("/results", _file("results.html")),
            web.get("/style.css", _file("style.css")),
            web.get("/judge.js", _file("judge.js")),
            web.get("/results.js", _file("results.js")),
            web.get("/api/questions", _questions),
            web.post("/api/next", _next),
            web.post("/api/vote", _vote),
            web.get("/api/results", _results),
            web.get("/api/votes.csv", _votes_csv),
            web.get("/api/votes.json", _votes_json),
            web.get("/video/{token}", _video),
        ]
    )
    return app


def rater_path(app: web.Application) -> str:
    """Return the path, with its token, that raters open."""
    return f"/?token={app[TOKENS]['rater']}" if app[TOKENS] else "/"


def results_path(app: web.Application) -> str:
    """Return the path, with its token, that shows the results."""
    return f"/results?token={app[TOKENS]['owner']}" if app[TOKENS] else "/results"


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    """Let only holders of a token in, and keep it in a cookie so that links need not carry it."""
    tokens = request.app[TOKENS]
    if not tokens:
        return await handler(request)
    cookie = f"{COOKIE}_{request.url.port}"  # cookies do not tell the ports of a host apart
    kept = request.cookies.get(cookie, "")
    given = request.query.get("token") or kept
    is_owner = any(secrets.compare_digest(each.encode(), tokens["owner"].encode()) for each in (given, kept))
    is_rater = is_owner or secrets.compare_digest(given.encode(), tokens["rater"].encode())
    if not is_rater or (request.path in OWNER_PATHS and not is_owner):
        return web.Response(status=403, text="Open the address with the token that the command has printed.")
    response = await handler(request)
    if "token" in request.query:
        response.set_cookie(cookie, tokens["owner"] if is_owner else given, httponly=True, samesite="Strict")
    return response


def _file(name: str) -> Any:
    async def handler(_: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})

    return handler


async def _questions(request: web.Request) -> web.Response:
    questions = [
        {
            "key": question.key,
            "text": question.text,
            "reasons": [{"key": r.key, "label": r.label, "explanation": r.explanation} for r in question.reasons],
        }
        for question in QUESTIONS.values()
    ]
    return web.json_response({"questions": questions, "examples": request.app[SESSION].examples()})


async def _next(request: web.Request) -> web.Response:
    session = request.app[SESSION]
    return web.json_response(_next_task(session, _rater(session, await _body(request))))


async def _vote(request: web.Request) -> web.Response:
    session, body = request.app[SESSION], await _body(request)
    rater = _rater(session, body)
    task = session.task(rater, _text(body, "task"))
    answers = {}
    given = body.get("answers")
    for key, answer in given.items() if isinstance(given, dict) else ():
        if not isinstance(answer, dict) or not isinstance(answer.get("reasons"), list):
            raise ValueError("An answer needs a side and a list of reasons.")
        arm = {"left": task.left, "right": task.right}.get(str(answer.get("side")), "")
        answers[str(key)] = Answer(arm, tuple(map(str, answer["reasons"])))
    seconds = body.get("seconds")
    seconds = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 86_400 else 0.0
    session.store.add(rater, task, answers, seconds)
    return web.json_response(_next_task(session, rater))


def _next_task(session: Session, rater: str) -> dict:
    task, done, total = session.next_task(rater)
    result: dict[str, Any] = {"done": done, "total": total, "task": None}
    if task:
        result["task"] = {
            "key": task.key,
            "prompt": session.pairs[task.name].prompt,
            "left": session.task_link(rater, task, "left"),
            "right": session.task_link(rater, task, "right"),
        }
    return result


async def _results(request: web.Request) -> web.Response:
    session = request.app[SESSION]
    labels = {r.key: r.label for question in QUESTIONS.values() for r in question.reasons}
    texts = {question.key: question.text for question in QUESTIONS.values()}
    result = summary(session.store.votes(), session.groups)
    return web.json_response({**result, "arms": session.arms, "labels": labels, "questions": texts})


async def _votes_json(request: web.Request) -> web.Response:
    votes = [vote._asdict() for vote in request.app[SESSION].store.votes()]
    for vote in votes:
        vote["answers"] = {key: answer._asdict() for key, answer in vote["answers"].items()}
    return web.json_response({"arms": request.app[SESSION].arms, "votes": votes})


async def _votes_csv(request: web.Request) -> web.Response:
    text = io.StringIO()
    writer = csv.writer(text)
    keys = [f"{key}_{part}" for key in QUESTIONS for part in ("arm", "reasons")]
    writer.writerow(["rater", "kind", "name", "shown_left", "seconds", "voted_at", *keys])
    for vote in request.app[SESSION].store.votes():
        answers = [part for key in QUESTIONS for part in (vote.answers[key].arm, " ".join(vote.answers[key].reasons))]
        cells = [vote.rater, vote.kind, vote.name, vote.shown_left, vote.seconds, vote.voted_at, *answers]
        writer.writerow([_cell(cell) for cell in cells])
    return web.Response(
        text=text.getvalue(),
        content_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="votes.csv"'},
    )


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


async def _video(request: web.Request) -> web.StreamResponse:
    path = request.app[SESSION].shown.get(request.match_info["token"])
    if path is None:
        raise web.HTTPNotFound(text="This video belongs to an earlier start of the server. Reload the page.")
    return web.FileResponse(path, headers={"Cache-Control": "no-store"})


async def _body(request: web.Request) -> dict:
    """Return the JSON object of a request. The content type keeps other sites' forms out."""
    if request.content_type != "application/json":
        raise ValueError("The request must be JSON.")
    try:
        body = await request.json()
    except (UnicodeDecodeError, RecursionError, ValueError):
        body = None
    if not isinstance(body, dict):
        raise ValueError("The request must be a JSON object.")
    return body


def _text(body: dict, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ValueError(f"The request needs {name} as text.")
    return value


def _rater(session: Session, body: dict) -> str:
    name = " ".join(_text(body, "rater").split())
    if not 1 <= len(name) <= MOST_NAME or any(unicodedata.category(c).startswith("C") for c in name):
        raise ValueError(f"Write your name in 1 to {MOST_NAME} printable characters.")
    if name.casefold() == READER:
        raise ValueError(f"The name {name!r} is that of the automatic judge. Choose another one.")
    return session.store.spelling(name)
