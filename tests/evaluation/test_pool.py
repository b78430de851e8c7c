"""Jobs on several servers, some of which die, fail or talk nonsense."""

import asyncio
import contextlib
import threading

import pytest
from aiohttp import web
from emu_video.evaluation import pictures, pool
from emu_video.evaluation.measure import measure
from emu_video.evaluation.pool import Pool
from emu_video.evaluation.results import Results, read_rows
from emu_video.evaluation.servers import Job, files_used, model_files
from emu_video.launcher import client
from emu_video.launcher.client import ConnectionLost
from emu_video.launcher.server import free_port
from emu_video.tests.evaluation.fake_comfyui import FakeComfyUI, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(pool, "RETURN_SECONDS", 0.5)
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.02)


def jobs(count):
    nodes = [{"seed": {"class_type": "Seed", "inputs": {"seed": i}}} for i in range(count)]
    return [Job(f"job {i}", graph) for i, graph in enumerate(nodes)]


def run(servers, work):
    """Returns (key -> grey value of what came back, key -> reason of failure, lines of the report)."""
    done, lines = {}, []

    def finished(job, outputs):
        assert job.key not in done, "finished twice"
        done[job.key] = int(pictures.decode(outputs["frames"][0])[0, 0, 0])

    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(serving(server)).url for server in servers]
        failed = Pool(urls, finished, lines.append).run(work)
    return done, failed, lines


def everything(count):
    return {f"job {i}": i for i in range(count)}


def test_work_is_shared_out():
    servers = [FakeComfyUI(), FakeComfyUI()]
    done, failed, lines = run(servers, jobs(12))
    assert done == everything(12) and not failed
    assert all(len(server.runs) >= 3 for server in servers) and sum(len(server.runs) for server in servers) == 12
    assert lines[-1].startswith("12 of 12, 0:00:00 left")


def test_rows_of_a_part_keep_the_order_of_the_others(tmp_path):
    """Tables are made in the order of the file."""
    results = Results(tmp_path / "rows.jsonl")
    others = [f"other {i}" for i in range(20)]

    def judge(key, outputs):
        return {"value": key}, [pictures.decode(outputs["frames"][0])]

    for key in others:
        results.add(key, {"value": 0})
    with serving(FakeComfyUI()) as server:
        rows = measure([server.url], results, jobs(2), judge)
    assert [row["value"] for row in rows] == ["job 0", "job 1"]
    assert list(read_rows(results.path)) == ["job 0", "job 1", *others]


def test_server_that_dies_loses_nothing():
    dying = FakeComfyUI(lambda number, graph: "die" if number == 2 else None)
    done, failed, lines = run([FakeComfyUI(), dying], jobs(12))
    assert done == everything(12) and not failed and len(dying.runs) == 3
    assert any("was lost while it ran" in line for line in lines)


def test_server_that_talks_nonsense_in_between_is_asked_again():
    odd = FakeComfyUI(lambda number, graph: "nonsense" if number == 1 else None)
    done, failed, _ = run([odd], jobs(4))
    assert done == everything(4) and not failed and len(odd.runs) == 5


def test_server_that_hangs_is_lost(monkeypatch):
    monkeypatch.setattr(client, "HEARTBEAT_SECONDS", 0.4)
    hanging = FakeComfyUI(lambda number, graph: "hang" if number == 1 else None)
    done, failed, lines = run([hanging], jobs(4))
    assert done == everything(4) and not failed and len(hanging.runs) == 5
    assert any("was lost while it ran" in line for line in lines)


def test_all_servers_lost_says_how_to_go_on():
    with pytest.raises(ConnectionLost, match="All servers were lost; 5 of 6 jobs are left.*same command again"):
        run([FakeComfyUI(lambda number, graph: "die" if number else None)], jobs(6))


@pytest.mark.parametrize(
    "how, reason", [("fail", "out of memory"), ("refuse", "value not in list"), ("gone", "no longer has the file")]
)
def test_job_that_one_server_cannot_run_goes_to_the_other(how, reason):
    def small(number, graph):
        return how

    done, failed, _ = run([FakeComfyUI(small), FakeComfyUI()], jobs(5))
    assert done == everything(5) and not failed
    done, failed, lines = run([FakeComfyUI(lambda n, g: how if g["seed"]["inputs"]["seed"] == 1 else None)], jobs(3))
    assert done == {"job 0": 0, "job 2": 2} and reason in failed["job 1"]
    assert any("job 1 failed" in line for line in lines)


def test_job_that_makes_servers_answer_nonsense_does_not_go_round_for_ever():
    poisoned = FakeComfyUI(lambda number, graph: "nonsense" if graph["seed"]["inputs"]["seed"] == 0 else None)
    done, failed, _ = run([poisoned], jobs(3))
    assert done == {"job 1": 1, "job 2": 2} and "3 times" in failed["job 0"]


def test_address_without_a_server_is_left_out_or_refused():
    nobody = f"http://127.0.0.1:{free_port()}"
    lines = []
    with serving(FakeComfyUI()) as server:
        done = []
        Pool([nobody, server.url], lambda job, outputs: done.append(job.key), lines.append).run(jobs(2))
    assert sorted(done) == ["job 0", "job 1"] and any("left out" in line for line in lines)
    with pytest.raises(ConnectionLost, match="No ComfyUI answers"):
        Pool([nobody], lambda *_: None).run(jobs(1))


def test_something_else_at_the_address_is_named():
    class Other(FakeComfyUI):
        async def stats(self, request):
            return web.Response(text="<html>hello</html>", content_type="text/html")

    with pytest.raises(ConnectionLost, match="not a ComfyUI server"):
        run([Other()], jobs(1))


def test_uploads_come_before_the_run():
    server = FakeComfyUI()
    (job,) = jobs(1)
    run([server], [Job(job.key, job.nodes, {"given.png": b"content"})])
    assert server.uploads == {"given.png": b"content"}


def test_error_while_saving_a_result_is_not_swallowed():
    def disk_full(job, outputs):
        raise OSError("disk full")

    with serving(FakeComfyUI()) as server, pytest.raises(OSError, match="disk full"):
        Pool([server.url], disk_full).run(jobs(2))
    assert threading.active_count() < 20


def test_model_files_of_a_server():
    with serving(FakeComfyUI()) as server:
        offered = asyncio.run(model_files(server.url))
    assert offered == {"a.safetensors": [5, 1.0]}
    graph = {
        "1": {"class_type": "Load", "inputs": {"name": "a.safetensors", "other": "b.safetensors", "link": ["2", 0]}}
    }
    assert files_used(graph, offered) == offered


def test_model_files_of_one_name_in_two_folders_are_all_listed():
    server = FakeComfyUI()
    server.models["vae"] = [{"name": "a.safetensors", "size": 3, "modified": 2.0}]
    with serving(server):
        assert asyncio.run(model_files(server.url)) == {"a.safetensors": [3, 2.0, 5, 1.0]}
