"""Measure graphs: run those without a result, score their output, and keep rows and a contact sheet."""

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
"""(key of the job, saved files) -> figures, and strips [height, width, 3] for the contact sheet."""


def add_server_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--servers",
        nargs="+",
        metavar="URL",
        help="running ComfyUI servers that share the work (default: one is started on this machine)",
    )


@contextlib.contextmanager
def running_servers(addresses: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Yield the given addresses, with http:// added, or the address of a server started for the `with` block."""
    if addresses:
        yield [address if "://" in address else f"http://{address}" for address in addresses]
        return
    with server.running(comfyui.locate(), comfyui.make_base()) as started:
        yield [started.url]


def measure(servers: Sequence[str] | None, results: Results, jobs: Sequence[Job], judge: Judge) -> list[dict]:
    """Return one row for each job, in order. Jobs whose key is in `results` are not run again.

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
        results.rows = {key: results.rows[key] for key in dict.fromkeys([*(job.key for job in jobs), *results.rows])}
        results.write_whole()
    return [results.rows[job.key] for job in jobs]
