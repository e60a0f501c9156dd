"""gRPC in plain text on a port of its own, for the TLS listener before it.

grpcio works in threads; what they are asked is answered in the event loop's, where all state lives.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.faults import GARBAGE, Fault, Route
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.service import Service

SERVICE = "net.Orchestrator"
THREADS = 16

type Reset = Callable[[int], None]  # tears down the connection of the client at a port


class CallFailedError(Exception):
    """The call ends with this status of gRPC's, and a sentence."""

    def __init__(self, code: Any, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Rpc:
    def __init__(self, orchestrator: Orchestrator, service: Service) -> None:
        self._orchestrator = orchestrator
        self._service = service
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._reset: Reset = lambda _: None
        self._loop: asyncio.AbstractEventLoop | None = None  # none before start

    def start(self) -> int:
        """Listen at a free port and return it."""
        self._loop = asyncio.get_running_loop()
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return int(port)

    def reset_with(self, reset: Reset) -> None:
        self._reset = reset

    async def close(self) -> None:
        await asyncio.to_thread(self._server.stop(0).wait)

    def _handlers(self) -> Any:
        service = self._service
        methods = {
            "GetOrchestrator": self._method(
                "get_orchestrator", pb.OrchestratorRequest, service.get_orchestrator
            ),
            "Ping": self._method("ping", pb.PingPong, service.ping),
            "EndTranscodingSession": self._method(
                "end_transcoding_session", pb.EndTranscodingSessionRequest, service.end_transcoding_session
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _method[Q: Message](
        self, route: Route, kind: type[Q], answer: Callable[[Q], Awaitable[Message]]
    ) -> Any:
        """Wrap a method; bytes go in and out, so that replies can be broken."""

        async def reply(body: bytes, port: int) -> bytes:
            trouble = self._orchestrator.faults.next(route)
            await asyncio.sleep(trouble.delay_seconds)
            try:
                if trouble.breakage is None:
                    return (await answer(kind.FromString(body))).SerializeToString()
                return await self._broken(trouble.breakage, lambda: answer(kind.FromString(body)), port)
            except RefusedError as refusal:
                self._orchestrator.journal.counters.rpcs_refused += 1
                raise CallFailedError(grpc.StatusCode.UNKNOWN, refusal.text) from refusal
            except DecodeError as error:
                raise CallFailedError(grpc.StatusCode.INTERNAL, str(error)) from error

        def behave(body: bytes, context: Any) -> Any:
            assert self._loop is not None
            port = int(context.peer().rsplit(":", 1)[1])
            try:
                return asyncio.run_coroutine_threadsafe(reply(body, port), self._loop).result()
            except CallFailedError as failure:
                return context.abort(failure.code, failure.text)

        return grpc.unary_unary_rpc_method_handler(behave)

    async def _broken(self, fault: Fault, answer: Callable[[], Awaitable[Message]], port: int) -> bytes:
        if fault.kind in {"truncate", "garbage"}:
            body = (await answer()).SerializeToString()
            # Half a message may happen to be one; a message without its last byte never is.
            return body[:-1] if fault.kind == "truncate" else GARBAGE
        if fault.processed:
            await answer()
        if fault.kind == "reset":
            self._reset(port)
        raise CallFailedError(grpc.StatusCode.INTERNAL, "broken on demand")
