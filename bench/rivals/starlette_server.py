"""The live server that a competent developer writes by hand in Python: Starlette, asyncpg, LISTEN.

`python -m bench.rivals.starlette_server push|requery DATABASE_URL`

- `push`: a change's notification carries the row, which goes to the patient's subscribers as it is;
- `requery`: a notification carries the patient's id: the rows are read again, once for all subscribers.

There is no access, order, resume, acknowledgement, backpressure or atomicity: a client that misses a message never
knows.
"""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.child import answer_nothing, answer_parent, raise_file_limit

ROWS = (Path(__file__).parent / "rows.sql").read_text(encoding="utf-8")


class Notes:
    """Who subscribes to which patient, and what is sent to them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._subscribers: dict[str, set[WebSocket]] = {}
        self._reads: dict[str, asyncio.Task[str]] = {}
        self._changing: dict[str, bool] = {}
        self._requeries: set[asyncio.Task[None]] = set()
        self._pushes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def serve(self, websocket: WebSocket) -> None:
        """The endpoint: each message names one more patient."""
        await websocket.accept()
        patients = set()
        try:
            while True:
                patient = json.loads(await websocket.receive_text())["patient"]
                patients.add(patient)
                self._subscribers.setdefault(patient, set()).add(websocket)
                await websocket.send_text(await self._read_shared(patient))
        except WebSocketDisconnect:
            pass
        finally:
            for patient in patients:
                sockets = self._subscribers[patient]
                sockets.discard(websocket)
                if not sockets:
                    del self._subscribers[patient]

    def pushed(self, connection: object, pid: int, channel: str, payload: object) -> None:
        """A notification with a row."""
        row = json.loads(str(payload))
        if row["patient"] in self._subscribers:
            self._pushes.put_nowait((row["patient"], json.dumps({"type": "row", "row": row}, separators=(",", ":"))))

    async def push_in_order(self) -> None:
        """Sends what `pushed` has taken, one after the other, for ever."""
        while True:
            patient, text = await self._pushes.get()
            await self._broadcast(patient, text)

    def changed(self, connection: object, pid: int, channel: str, payload: object) -> None:
        """A notification with a patient's id. At most one read of a patient at a time; what changes meanwhile is one
        more read after it."""
        patient = str(payload)
        if patient in self._changing:
            self._changing[patient] = True
        elif patient in self._subscribers:
            self._changing[patient] = False
            task = asyncio.create_task(self._requery(patient))
            self._requeries.add(task)
            task.add_done_callback(self._requeries.discard)

    async def _requery(self, patient: str) -> None:
        again = True
        while again:
            self._changing[patient] = False
            await self._broadcast(patient, await self._read(patient))
            again = self._changing[patient]
        del self._changing[patient]

    async def _broadcast(self, patient: str, text: str) -> None:
        for websocket in list(self._subscribers.get(patient, ())):
            try:
                await websocket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                # It has gone; its own endpoint takes it off the list.
                pass

    async def _read(self, patient: str) -> str:
        rows: str = await self._pool.fetchval(ROWS, patient)
        return f'{{"type":"rows","patient":{json.dumps(patient)},"rows":{rows}}}'

    async def _read_shared(self, patient: str) -> str:
        """A read under way serves all who come meanwhile."""
        reading = self._reads.get(patient)
        if reading is None:
            reading = self._reads[patient] = asyncio.create_task(self._read(patient))
            reading.add_done_callback(lambda _: self._reads.pop(patient))
        return await reading


async def main(variant: str, url: str) -> None:
    raise_file_limit()
    pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    notes = Notes(pool)
    pushing = asyncio.create_task(notes.push_in_order())
    listener = await asyncpg.connect(url)
    await listener.add_listener("notes", notes.pushed if variant == "push" else notes.changed)
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/", notes.serve)]),
        host="127.0.0.1",
        port=0,
        backlog=4096,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    await answer_parent({"port": server.servers[0].sockets[0].getsockname()[1]}, answer_nothing)
    server.should_exit = True
    await serving
    pushing.cancel()
    await listener.close()
    await pool.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
