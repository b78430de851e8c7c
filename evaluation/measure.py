"""Measure graphs: run those that have no result yet, judge what they made, keep rows and a contact sheet."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..launcher import comfyui, server
from ..launcher.environment import LauncherError
from . import pictures
from .pool import Pool
from .results import Results
from .servers import Job, Outputs

SHEET_STRIPS = 24

Judge = Callable[[str, Outputs], tuple[dict, list[np.ndarray]]]
"""(key of the job, what it saved) -> figures, and strips [height, width, 3] to look at."""


def add_server_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--servers",
        nargs="+",
        metavar="URL",
        help="running ComfyUI servers that share the work (default: one is started on this machine)",
    )


@contextlib.contextmanager
def running_servers(addresses: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """The given addresses, with http:// where they lack it, or that of a server that runs while the block does."""
    if addresses:
        yield [address if "://" in address else f"http://{address}" for address in addresses]
        return
    with server.running(comfyui.locate(), comfyui.make_base()) as started:
        yield [started.url]


def measure(servers: Sequence[str] | None, results: Results, jobs: Sequence[Job], judge: Judge) -> list[dict]:
    """Return one row for each job, in order. Jobs whose key `results` has are not run again.

    Writes a contact sheet of the last strips beside the results file.

    Raises:
        LauncherError: some jobs failed; the rows of the others are kept.
    """
    strips: list[np.ndarray] = []

    def finished(job: Job, outputs: Outputs) -> None:
        row, new = judge(job.key, outputs)
        results.add(job.key, row)
        strips.extend(new)
        pictures.write_sheet(results.path.with_suffix(".png"), strips[-SHEET_STRIPS:])

    missing = [job for job in jobs if job.key not in results]
    if missing:
        with running_servers(servers) as addresses:
            failed = Pool(addresses, finished).run(missing)
        if failed:
            key, reason = next(iter(failed.items()))
            raise LauncherError(f"{len(failed)} of {len(missing)} jobs failed. The first one, {key!r}: {reason}")
        order = [job.key for job in jobs]
        results.rows = {key: results.rows[key] for key in [*order, *(results.rows.keys() - set(order))]}
        results.write_whole()
    return [results.rows[job.key] for job in jobs]
