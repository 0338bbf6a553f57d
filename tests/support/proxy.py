"""A TCP proxy that can be as nasty as a network: it hangs, refuses, resets, drips, is slow."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


class Proxy:
    """Passes connections on to *target*, in a thread of its own; *mode* may change at any time.

    ``pass``; ``hang``: takes connections and data and passes nothing on; ``drip``: passes
    answers on octet by octet; ``slow``: passes answers on after *delay*; ``reset``: ends every
    connection by RST. ``refuse`` and ``accept`` close and open the port.
    """

    def __init__(self, target: tuple[str, int], address: str = "127.0.0.1") -> None:
        self.target = target
        self.mode = "pass"
        self.delay = 0.5
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._address = address
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)  # type: ignore[arg-type]

    def accept(self) -> None:
        """Open the port, the same one as before."""
        self._call(self._listen())

    def refuse(self) -> None:
        """Close the port, and every connection."""
        self._call(self._close())

    def reset(self) -> None:
        """End every connection by RST, and each new one until ``mode`` is another."""
        self.mode = "reset"
        self._call(self._reset_all())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _reset_all(self) -> None:
        for writer in list(self._writers):
            _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.mode == "reset":
                _abort(writer)
                return
            there, back = await asyncio.open_connection(*self.target)
            self._writers.add(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer, answers=True))
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            _abort(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with suppress(OSError):
            while octets := await reader.read(65_536):
                if self.mode == "hang":
                    continue
                if answers and self.mode == "slow":
                    await asyncio.sleep(self.delay)
                pieces = [octets]
                if answers and self.mode == "drip":
                    pieces = [octets[at : at + 1] for at in range(len(octets))]
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if len(pieces) > 1:
                        await asyncio.sleep(0.001)
        _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    opened = writer.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0:
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
