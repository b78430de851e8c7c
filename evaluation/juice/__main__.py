"""Judge two folders of videos: `python run.py judge A B`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from aiohttp import web

from ...launcher.environment import LauncherError
from ...training.checkpoint import DiskFull
from ..prompts import read_prompts
from .server import make_app, rater_path, results_path
from .session import Session

PAGE = """Open a page on which people compare the videos of two folders, blindly and with reasons. Videos with the same
file name are a pair. Votes are kept in DIR/votes.sqlite; the same command continues a session."""


def session_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that `open_session` needs."""
    result = argparse.ArgumentParser(prog=prog, description=description)
    result.add_argument("a", type=Path, help="folder of videos")
    result.add_argument("b", type=Path, help="folder of videos with the same names")
    result.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts of the videos (default: NAME.txt, or the name)"
    )
    result.add_argument("--folder", type=Path, metavar="DIR", help="of the session (default: runs/judge_A_B)")
    result.add_argument(
        "--check-every", type=int, default=10, metavar="N", help="pairs between attention checks, 0 for none"
    )
    result.add_argument("--seed", type=int, default=0, help="of the order and the sides")
    return result


def open_session(args: argparse.Namespace) -> Session:
    """Return the session of the parsed arguments. Raises ValueError: see `Session`."""
    folder = args.folder or Path("runs") / f"judge_{args.a.name}_{args.b.name}"
    texts = {prompt.id: prompt.text for prompt in read_prompts(args.prompts)} if args.prompts else {}
    return Session(args.a, args.b, folder, prompts=texts, seed=args.seed, check_every=args.check_every)


def parser() -> argparse.ArgumentParser:
    result = session_parser("run.py judge", PAGE)
    result.add_argument("--port", type=int, default=8190)
    result.add_argument("--lan", action="store_true", help="let raters on the local network in, with a token")
    return result


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        listening = listen("0.0.0.0" if args.lan else "127.0.0.1", args.port)
        session = open_session(args)
    except (ValueError, DiskFull) as error:
        raise LauncherError(str(error)) from error
    app = make_app(session, on_lan=args.lan)
    host = f"http://{lan_address() if args.lan else '127.0.0.1'}:{listening.getsockname()[1]}"
    print(f"{len(session.pairs)} pairs. Raters open {host}{rater_path(app)}")
    print(f"Results: {host}{results_path(app)}\nCtrl-C stops the server; no vote is lost.", flush=True)
    web.run_app(app, sock=listening, print=None)
    session.store.close()
    return 0


def lan_address() -> str:
    """Return this computer's address on the network, or its name if it has none. Phones may not know the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address; UDP sends nothing
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `port`. Raises ValueError if the port is taken."""
    result = socket.socket()
    if os.name != "nt":  # there it would share a port that is taken
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        result.bind((host, port))
        result.listen()
    except (OSError, OverflowError) as error:
        result.close()
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"Port {port} cannot be used ({reason}). Choose another one with --port.") from error
    return result


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LauncherError as failure:
        sys.exit(f"run.py judge: {failure}")
