"""Distribute jobs among ComfyUI servers. When a server dies, its job goes to another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from ..launcher.client import ConnectionLost
from ..launcher.environment import LauncherError
from .servers import Job, Outputs, is_comfyui, run_job

RETURN_SECONDS = 60.0
"""Seconds for which a lost server, for example one that restarts, is tried again."""

ATTEMPTS = 3
"""A job fails after servers were lost this many times while it ran: it probably makes them crash."""

POLL_SECONDS = 0.2


class Pool:
    """Pool of servers that run jobs in parallel.

    Args:
        servers: addresses such as http://127.0.0.1:8188.
        finished: called with (job, outputs) of each job that is done.
        report: called with one line of text: progress with the time left, or a problem.
    """

    def __init__(
        self,
        servers: Iterable[str],
        finished: Callable[[Job, Outputs], None],
        report: Callable[[str], None] = lambda line: print(line, flush=True),
    ):
        self.servers = list(dict.fromkeys(server.rstrip("/") for server in servers))
        self.finished = finished
        self.report = report

    def run(self, jobs: Iterable[Job]) -> dict[str, str]:
        """Run all jobs; return key -> reason of those that failed on every server.

        Raises:
            ConnectionLost: an address is not a ComfyUI, no server answers, or all were lost before the last job.
        """
        self.waiting = list(jobs)
        self.failed: dict[str, str] = {}
        self.refused_by: dict[str, set[str]] = {}
        self.lost: dict[str, int] = {}
        self.busy = self.done = 0
        self.total, self.started = len(self.waiting), time.monotonic()
        if self.waiting:
            asyncio.run(self._run())
        return self.failed

    async def _run(self) -> None:
        answers = await asyncio.gather(*map(is_comfyui, self.servers))
        self.alive = {server for server, answered in zip(self.servers, answers, strict=True) if answered}
        for server in self.servers:
            if server not in self.alive:
                self.report(f"{server} does not answer and is left out.")
        if not self.alive:
            raise ConnectionLost(f"No ComfyUI answers at {', '.join(self.servers)}. Start one, or correct the address.")
        await asyncio.gather(*map(self._work, sorted(self.alive)))
        if self.waiting:
            raise ConnectionLost(
                f"All servers were lost; {len(self.waiting)} of {self.total} jobs are left. "
                "Start a server and run the same command again to continue."
            )

    async def _work(self, server: str) -> None:
        while self.waiting or self.busy:
            job = next((job for job in self.waiting if server not in self.refused_by.get(job.key, ())), None)
            if job is None:  # a job that runs on another server may come back into the queue
                await asyncio.sleep(POLL_SECONDS)
                continue
            self.waiting.remove(job)
            self.busy += 1
            try:
                outputs = await run_job(server, job)
            except ConnectionLost as lost:
                self._count_loss(job, lost)
                self.busy -= 1
                self.report(f"{server} was lost while it ran {job.key!r} ({lost}); it is asked again.")
                if not await self._returns(server):
                    self._give_up(server)
                    return
            except LauncherError as refused:
                self.busy -= 1
                self._refuse(server, job, str(refused))
            else:
                self.busy -= 1
                self.done += 1
                self.finished(job, outputs)
                self.report(self.progress())

    def _count_loss(self, job: Job, lost: ConnectionLost) -> None:
        self.lost[job.key] = self.lost.get(job.key, 0) + 1
        if self.lost[job.key] < ATTEMPTS:
            self.waiting.insert(0, job)
        else:
            self.failed[job.key] = f"servers were lost {ATTEMPTS} times while this job ran; last: {lost}"
            self.report(f"{job.key} failed: {self.failed[job.key]}")

    def _refuse(self, server: str, job: Job, reason: str) -> None:
        """Offer a job that failed on one server to the others. It fails if no other server is left."""
        refused_by = self.refused_by.setdefault(job.key, set())
        refused_by.add(server)
        if self.alive <= refused_by:
            self.failed[job.key] = reason
            self.report(f"{job.key} failed: {reason}")
        else:
            self.waiting.append(job)

    def _give_up(self, server: str) -> None:
        self.alive.discard(server)
        self.report(f"{server} is no longer tried; {len(self.alive)} servers remain.")
        for job in [job for job in self.waiting if self.alive <= self.refused_by.get(job.key, set())]:
            if self.alive:
                self.waiting.remove(job)
                self.failed[job.key] = "no server that is left can run it"

    async def _returns(self, server: str) -> bool:
        deadline = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < deadline:
            try:
                if await is_comfyui(server):
                    return True
            except ConnectionLost:
                pass
            if not self.waiting and not self.busy:
                return True  # all jobs are done, so the error does not matter
            await asyncio.sleep(POLL_SECONDS)
        return False

    def progress(self) -> str:
        seconds = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        return f"{self.done} of {self.total}, {timedelta(seconds=round(seconds))} left"
