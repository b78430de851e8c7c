"""A server that speaks ComfyUI's API without any model, for tests of what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections.abc import Iterator

import cv2
import numpy as np
from aiohttp import WSMsgType, web


class FakeComfyUI:
    """Runs every graph by saving pictures as grey as its seed, with a square that moves from one to the next.

    The node "frames" saves eight, every other Preview Image one. Without such nodes "frames" saves one.

    behaviour: called with the number of the run and the graph; may return "die", "gone", "hang", "nonsense", "fail" or
    "refuse".
    """

    def __init__(self, behaviour=lambda number, graph: None):
        self.behaviour = behaviour
        self.runs: list[dict] = []
        self.uploads: dict[str, bytes] = {}
        self.models = {"checkpoints": [{"name": "a.safetensors", "size": 5, "modified": 1.0}]}
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.gone: set[str] = set()
        self.hanging: list[web.WebSocketResponse] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/system_stats", self.stats)
        app.router.add_get("/ws", self.socket)
        app.router.add_post("/prompt", self.prompt)
        app.router.add_post("/upload/image", self.upload)
        app.router.add_get("/view", self.view)
        app.router.add_get("/experiment/models", self.folders)
        app.router.add_get("/experiment/models/{folder}", self.folder)
        return app

    async def stats(self, request):
        return web.json_response({"system": {"comfyui_version": "0"}})

    async def folders(self, request):
        return web.json_response([{"name": name} for name in self.models])

    async def folder(self, request):
        return web.json_response(self.models[request.match_info["folder"]])

    async def socket(self, request):
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        async for message in socket:
            if message.type is WSMsgType.PING and socket not in self.hanging:
                await socket.pong(message.data)
        return socket

    async def upload(self, request):
        form = await request.post()
        self.uploads[form["image"].filename] = form["image"].file.read()
        return web.json_response({})

    async def prompt(self, request):
        body = await request.json()
        behaviour = self.behaviour(len(self.runs), body["prompt"])
        self.runs.append(body["prompt"])
        if behaviour == "nonsense":
            return web.json_response({"answer": 42})
        if behaviour == "refuse":
            error = {"error": {"message": "value not in list"}, "node_errors": {}}
            return web.json_response(error, status=400)
        number = uuid.uuid4().hex
        asyncio.get_running_loop().create_task(self.execute(body, number, behaviour))
        return web.json_response({"prompt_id": number, "node_errors": {}})

    async def execute(self, body: dict, number: str, behaviour: str | None) -> None:
        socket = self.sockets[body["client_id"]]
        await asyncio.sleep(0.02)
        if behaviour == "die":
            await socket.close()
            self.stop_soon()
            return
        nodes = body["prompt"]
        if behaviour == "hang":
            self.hanging.append(socket)
            return
        seed = next(node["inputs"]["seed"] for node in nodes.values() if "seed" in node["inputs"])
        if behaviour == "fail":
            data = {"prompt_id": number, "node_id": "seed", "exception_message": "out of memory"}
            await socket.send_str(json.dumps({"type": "execution_error", "data": data}))
            return
        saving = [key for key, node in nodes.items() if node["class_type"] == "PreviewImage"]
        counts = {key: 8 if key == "frames" else 1 for key in saving} or {"frames": 1}
        self.gone |= {f"{seed}_0.png"} if behaviour == "gone" else set()
        events = [("executed", {"node": key, "output": pictures_of(seed, count)}) for key, count in counts.items()]
        for event, data in (*events, ("execution_success", {})):
            await socket.send_str(json.dumps({"type": event, "data": {"prompt_id": number, **data}}))

    async def view(self, request):
        if request.query["filename"] in self.gone:
            return web.Response(status=404)
        value, frame = map(int, request.query["filename"].removesuffix(".png").split("_"))
        picture = np.full((64, 64, 3), value % 256, np.uint8)
        picture[20:36, 10 + 3 * frame : 26 + 3 * frame] = 230
        return web.Response(body=cv2.imencode(".png", picture)[1].tobytes(), content_type="image/png")

    def stop_soon(self) -> None:
        self.stopped.set()

    async def serve(self, ready: threading.Event) -> None:
        self.stopped = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{port}"
        ready.set()
        await self.stopped.wait()
        await runner.cleanup()


def pictures_of(seed: int, count: int) -> dict:
    return {"images": [{"filename": f"{seed}_{i}.png", "subfolder": "", "type": "temp"} for i in range(count)]}


@contextlib.contextmanager
def serving(server: FakeComfyUI) -> Iterator[FakeComfyUI]:
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(ready)))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(server.stopped.set) if thread.is_alive() else None
        thread.join(10)
