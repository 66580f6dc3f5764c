"""A model that does what a script says, behind real HTTP, compatible with OpenAI's APIs.

    async with ModelServer() as server:
        server.script("scripted", calls(call("deploy", version="1.2")), says("Deployed."))
        agent = Agent(name="ops", model=OpenAIChat("scripted", base_url=server.url), tools=[deploy])

Each answer of a script is one turn. The server keeps no conversations: which answer comes is how many answers the
request has already, so any number of runs may follow one script at once, and a retry is answered as the first try was.
What goes before an answer (`fails`, `hangs`, `breaks_off`, `garbles`, `alters`) happens a number of times for each
input and then no more; runs with exactly the same input share that number. `thinks` adds reasoning to the answer
behind it, `alters` makes it one of another server.

A step may be a function of the `Conversation`. One that is the whole script answers every turn.

Who asks with `stream: true` is answered word by word, by server-sent events; `says(..., delay=0.1)` takes its time.

Requests that real providers refuse are refused, with their words where we know them: an output without its call, a
call without its output, names and arguments in the history that they do not take, reasoning that is not passed back,
unknown parameters, schemas that are not strict. `assent.testing._requests` has the table: each rule, whose it is, and
where it was reported.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from types import TracebackType
from typing import Final, Literal, Self

from aiohttp import web
from pydantic import JsonValue

from assent.testing._answers import TurnReply, completion, response
from assent.testing._reasoning import MARK_LENGTH
from assent.testing._requests import BadRequestError, CheckedRequest, JsonObject, read_chat, read_responses
from assent.testing._script import (
    Alteration,
    BreakOff,
    Conversation,
    Failure,
    Garble,
    Hang,
    PlainStep,
    Reply,
    Script,
    Step,
    Thought,
    turns_of,
)
from assent.testing._streams import completion_events, response_events, send

Api = Literal["responses", "chat"]

_LARGEST_REQUEST: Final = 64 * 1024 * 1024
_READERS: Final[Mapping[Api, Callable[[JsonObject], CheckedRequest]]] = {"responses": read_responses, "chat": read_chat}
_RENDERERS: Final[Mapping[Api, Callable[[TurnReply], JsonObject]]] = {"responses": response, "chat": completion}


@dataclass(frozen=True)
class RecordedRequest:
    """One request that the server got. *headers* are in lower case; *at* is when it came, in UTC."""

    model: str
    api: Api
    body: dict[str, JsonValue]
    headers: dict[str, str]
    at: datetime


@dataclass
class _Exchange:
    """One request on its way to an answer."""

    request: web.Request
    api: Api
    asked: CheckedRequest
    size: int
    mark: str
    thought: Thought | None = None
    broken: bool = False
    alterations: list[Alteration] = field(default_factory=list[Alteration])
    path: tuple[int, ...] = field(default=())


class ModelServer:
    """The scripted server. An async context manager; `in_thread` for programs that are not async.

    *url* is the base URL for a client, with its `/v1`. *requests* is everything that was asked of a model, oldest
    first; `record=False` keeps none, for long benchmarks. *api_key* may be set and changed at any time: a request
    with another key is then refused with 401. *port* 0 takes a free one.
    """

    def __init__(self, *, port: int = 0, api_key: str | None = None, record: bool = True) -> None:
        self.api_key = api_key
        self.requests: list[RecordedRequest] = []
        self._record = record
        self._port = port
        self._scripts: dict[str, Script] = {}
        self._happened: Counter[tuple[str, tuple[int, ...]]] = Counter()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL for a client: `http://127.0.0.1:PORT/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def script(self, model: str, *steps: Step) -> None:
        """Let *model* do *steps*, from now on. Answers 400 when they run out."""
        self._scripts[model] = Script.of(steps)

    async def start(self) -> Self:
        """Listen on 127.0.0.1.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_post("/v1/responses", partial(self._post, api="responses"))
        app.router.add_post("/v1/chat/completions", partial(self._post, api="chat"))
        app.router.add_get("/v1/models", self._list_models)
        # A client that gave up must not leave a handler that hangs behind.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = int(self._runner.addresses[0][1])
        return self

    async def stop(self) -> None:
        """Close the port and every connection. The scripts and the recorded requests stay."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    @classmethod
    @contextmanager
    def in_thread(
        cls, *, port: int = 0, api_key: str | None = None, record: bool = True
    ) -> Generator[Self, None, None]:
        """A server that runs in a thread of its own, for programs that are not async."""
        server = cls(port=port, api_key=api_key, record=record)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="assent-model-server", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result()
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _list_models(self, _request: web.Request) -> web.Response:
        models: list[JsonValue] = [
            {"id": model, "object": "model", "created": 0, "owned_by": "assent"} for model in self._scripts
        ]
        return _json({"object": "list", "data": models})

    async def _post(self, request: web.Request, api: Api) -> web.StreamResponse:
        raw = await request.read()
        try:
            self._check_key(request)
            body = _object(raw)
            self._remember(request, api, body)
            asked = _READERS[api](body)
            slot, conversation = self._slot(asked)
            conversation_json = body.get("input" if api == "responses" else "messages")
            exchange = _Exchange(request, api, asked, len(raw), _mark(asked.model, conversation_json))
            return await self._perform(exchange, slot, conversation)
        except BadRequestError as error:
            return _json({"error": error.error}, status=error.status)

    def _check_key(self, request: web.Request) -> None:
        if self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            raise BadRequestError("Incorrect API key provided.", code="invalid_api_key", status=401)

    def _remember(self, request: web.Request, api: Api, body: JsonObject) -> None:
        if self._record:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.requests.append(RecordedRequest(str(body.get("model", "")), api, body, headers, datetime.now(UTC)))

    def _slot(self, asked: CheckedRequest) -> tuple[list[Step], Conversation]:
        script = self._scripts.get(asked.model)
        if script is None:
            message = f"The model `{asked.model}` does not exist or you do not have access to it."
            raise BadRequestError(message, code="model_not_found", status=404)
        turn = turns_of(asked.items)
        slot = script.at(turn)
        if slot is None:
            message = (
                f"The script of model `{asked.model}` has {len(script.slots)} answers; turn {turn + 1} was asked for."
            )
            raise BadRequestError(message, code="script_ran_out")
        return slot, Conversation(asked.model, asked.instructions, asked.items, asked.tools, turn)

    async def _perform(
        self, exchange: _Exchange, steps: Sequence[Step], conversation: Conversation
    ) -> web.StreamResponse:
        """Do *steps* up to the first that answers; a function is replaced by what it answers."""
        outer = exchange.path
        for index, step in enumerate(steps):
            exchange.path = (*outer, index)
            if isinstance(step, Reply):
                return await self._reply(exchange, step)
            if callable(step):
                return await self._perform(exchange, _called(step, conversation), conversation)
            if answer := await self._before_answer(exchange, step):
                return answer
        raise BadRequestError(
            f"The script of model `{exchange.asked.model}` has no answer here.", code="script_ran_out"
        )

    async def _before_answer(self, exchange: _Exchange, step: PlainStep) -> web.StreamResponse | None:
        if isinstance(step, Thought):
            exchange.thought = step
        elif isinstance(step, Failure | Hang | BreakOff | Garble | Alteration) and self._is_due(exchange, step.times):
            if isinstance(step, Failure):
                return _json(step.body, status=step.status, headers=step.headers)
            if isinstance(step, Garble):
                return web.Response(text=step.body, content_type=step.content_type)
            if isinstance(step, Hang):
                await asyncio.sleep(step.seconds)
            if isinstance(step, Alteration):
                exchange.alterations.append(step)
            exchange.broken |= isinstance(step, BreakOff)
        return None

    def _is_due(self, exchange: _Exchange, times: int | None) -> bool:
        key = (exchange.mark, exchange.path)
        self._happened[key] += 1
        return times is None or self._happened[key] <= times

    async def _reply(self, exchange: _Exchange, reply: Reply) -> web.StreamResponse:
        answered = TurnReply(exchange.asked.model, reply, exchange.thought, exchange.mark, exchange.size)
        rendered = _RENDERERS[exchange.api](answered)
        for alteration in exchange.alterations:
            alteration.change(rendered)
        if exchange.asked.stream:
            events = _events(rendered, exchange)
            return await send(exchange.request, events, reply.delay, broken=exchange.broken)
        body = _dumped(rendered)
        if not exchange.broken:
            return web.Response(body=body, content_type="application/json")
        return await _half_of(body, exchange.request)


def _events(body: JsonObject, exchange: _Exchange) -> list[bytes]:
    if exchange.api == "responses":
        return response_events(body)
    return completion_events(body, usage=exchange.asked.usage)


async def _half_of(body: bytes, request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    answer = web.StreamResponse(headers=headers)
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return answer


def _called(
    step: Callable[[Conversation], PlainStep | Sequence[PlainStep]], conversation: Conversation
) -> Sequence[PlainStep]:
    try:
        result = step(conversation)
    except Exception as error:
        message = f"A step of the script of model `{conversation.model}` raised {type(error).__name__}: {error}"
        raise BadRequestError(message, code="script_raised") from error
    return result if isinstance(result, Sequence) else [result]


def _object(raw: bytes) -> JsonObject:
    try:
        body: JsonValue = json.loads(raw)
    except ValueError as error:
        raise BadRequestError("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise BadRequestError("We expected a JSON object as the body of your request.")
    return body


def _mark(model: str, conversation: JsonValue) -> str:
    """What names a point of a conversation: the same for a retry, another one for every other input."""
    return blake2b(model.encode() + b"\0" + _dumped(conversation), digest_size=MARK_LENGTH // 2).hexdigest()


def _dumped(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _json(body: JsonValue, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=_dumped(body), status=status, headers=headers, content_type="application/json")
