"""``radius-mfa client test``: play a client's gateway against a running server, and judge it.

One code does for everything: what has to be wrong is made here, and what has to be a repeat is the
login itself again.
"""

import secrets
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from radius_mfa.app import nas, nas_table
from radius_mfa.authentication.refusal import REJECT_JITTER
from radius_mfa.cli.common import ExitCode, JsonOption, output, print_json, read_secret, settings
from radius_mfa.cli.exchange import (
    Line,
    ServerOption,
    TypedFileOption,
    answer_to,
    client_named,
    octets_of,
    over_udp,
    place,
    server_address,
)
from radius_mfa.cli.test import check_text, prompt_for
from radius_mfa.config import ClientSettings, Settings, without_full_prefix
from radius_mfa.errors import BackendError, Refused, UnknownNas
from radius_mfa.policy.credentials import CodePosition
from radius_mfa.protocol.client import ClientRequest, Reply
from radius_mfa.protocol.wire import Code

NOBODY = "radius-mfa-client-test"
"""Whoever this is, nobody has the password that is sent with it."""

_PROXY_STATES = ("radius-mfa test 1", "radius-mfa test 2")
_SILENCE_MARGIN_SECONDS = 1.0
_COLUMNS = 80
_INDENT = " " * 9

Server = tuple[str, int]
Result = str


class FailedError(Exception):
    """A check did not come out as it must."""

    def __init__(self, detail: str, cure: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, in the words of the list."""

    name: str
    title: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to: *result* is pass, fail or skip."""

    name: str
    title: str
    result: Result
    detail: str = ""
    cure: str = ""


class Gateway:
    """A client's gateway: it asks as the client, from the client's address."""

    def __init__(
        self, client: ClientSettings, in_force: Settings, source: str, timeout_seconds: float
    ) -> None:
        self.client = client
        self.policy = nas(client, in_force)
        self._source = source
        self._timeout_seconds = timeout_seconds
        reject_seconds = in_force.radius.reject_delay_seconds * (1 + REJECT_JITTER)
        self.unanswered: set[Server] = set()
        self._silence_seconds = reject_seconds + _SILENCE_MARGIN_SECONDS

    def request(
        self,
        user: str,
        typed: bytes,
        attributes: Mapping[str, str | Sequence[str]] | None = None,
        *,
        state: bytes | None = None,
        signed: bool = True,
    ) -> ClientRequest:
        """Return an Access-Request of this gateway."""
        fields = {"User-Name": user, "NAS-Identifier": "radius-mfa test", **(attributes or {})}
        secret = self.policy.shared_secret
        return ClientRequest(secret, Code.ACCESS_REQUEST, fields, typed, state=state, signed=signed)

    def line(self, server: Server) -> Line:
        """Return a socket of this gateway."""
        return Line(server, self._source)

    def ask(self, server: Server, request: ClientRequest) -> Reply:
        """Return the reply, or raise FailedError where there is none."""
        with self.line(server) as line:
            return self.ask_on(line, request)

    def ask_on(self, line: Line, request: ClientRequest) -> Reply:
        """Return the reply that comes back on *line*, or raise FailedError."""
        try:
            reply = line.asked(request, self._timeout_seconds)
            if reply is not None:
                return reply
            cure, detail = _NO_REPLY, f"no answer from {place(line.server)}"
        except BackendError as error:
            cure, detail = error.cure, error.message
        except Refused as error:
            cure, detail = _OTHER_SECRET, error.message
        self.unanswered.add(line.server)
        raise FailedError(detail, cure)

    def expect(self, code: Code, server: Server, request: ClientRequest, cure: str) -> Reply:
        """Return the reply, or raise FailedError with *cure* unless it is of *code*."""
        reply = self.ask(server, request)
        if reply.code is not code:
            raise FailedError(f"{place(server)} answers {reply.code.label}", cure)
        return reply

    def expect_silence(self, server: Server, request: ClientRequest, cure: str) -> None:
        """Raise FailedError where a reply comes back before a reject is due."""
        try:
            with self.line(server) as line:
                reply = line.asked_once(request, self._silence_seconds)
        except (BackendError, Refused) as error:
            raise FailedError(error.message, error.cure) from None
        if reply is not None:
            raise FailedError(f"{place(server)} answers {reply.code.label}", cure)


_NO_REPLY = (
    "The server's log says why: packet.discarded with unknown_nas (restart the server after a "
    "change of its clients) or bad_message_authenticator (another shared secret), or "
    "login.unanswered (a backend is down: radius-mfa status)."
)
_OTHER_SECRET = "The server has another shared secret for this client: was it restarted since?"  # noqa: S105 - advice
_RESTART = "Restart the server: it goes by the configuration that it read at its start."


def test_client(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the client to play.")],
    user: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="User who logs in, once. Without one, only what needs no login."
        ),
    ] = None,
    password_file: TypedFileOption = None,
    server: ServerOption = None,
    also: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS[:PORT]",
            help="A second node, which must know of the first one's login.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address of this machine to ask from."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for each reply.")
    ] = 6.0,
    as_json: JsonOption = False,
) -> None:
    """Play a client's gateway against the running server: what passes, what fails, and the cure."""
    in_force = settings(ctx)
    client = over_udp(client_named(name, in_force))
    first = server_address(server, in_force)
    second = None if also is None else server_address(also, in_force, "--also")
    asked_from = _our_place(client, in_force, first, source)
    gateway = Gateway(client, in_force, asked_from if source else "", timeout)
    if user is not None:
        check_text("User-Name", user)
    if not as_json:
        output.print(f"Playing {name}, from {asked_from}, against {place(first)}.\n")
    findings: list[Finding] = []
    for finding in _findings(gateway, first, second, user, password_file):
        if not as_json:
            _print(finding, said=findings[-1].detail if findings else "")
        findings.append(finding)
    failed = [finding for finding in findings if finding.result == "fail"]
    if as_json:
        print_json({"client": name, "passed": not failed, "checks": [asdict(f) for f in findings]})
    else:
        output.print(f"\n{_summary(findings)}")
    sys.exit(ExitCode.REFUSED if failed else ExitCode.DONE)


def _our_place(
    client: ClientSettings, in_force: Settings, server: Server, source: str | None
) -> str:
    """Return the address that we ask from, or raise Refused where it is not the client's."""
    with Line(server, source or "") as line:
        ours = line.source
    try:
        found = nas_table(in_force).find(ours).name
    except UnknownNas:
        found = ""
    if found == client.name:
        return ours
    known = f"client {found}" if found else "no client"
    addresses = ", ".join(map(without_full_prefix, client.address))
    local = found or "here"
    make = "" if found else f"radius-mfa client add here {ours}, restart the server, and "
    raise Refused(
        f"the server knows a client by its address: {ours} is {known}'s, {client.name}'s is "
        f"{addresses}",
        f"where this machine has such an address: --source ADDRESS; else play a client of this "
        f"machine: {make}radius-mfa client test {local}",
    )


def _findings(
    gateway: Gateway, first: Server, second: Server | None, user: str | None, file: Path | None
) -> Iterator[Finding]:
    """Yield one finding after the other; where nothing comes back the rest would only wait."""
    for check in _Stranger(gateway, first).checks():
        yield _run(check, "the server does not answer" if gateway.unanswered else "")
    client = gateway.client
    why, typed = "needs a login: --user USER" if user is None else "", b""
    if gateway.unanswered:
        why = "the server does not answer"
    if not why:
        typed = octets_of(read_secret(prompt_for(client), file), client.password_charsets[0])
    answer = partial(answer_to, file=file, line=1, charset=client.password_charsets[0])
    with gateway.line(first) as line:
        for check in _User(gateway, line, second, user or NOBODY, typed, answer).checks():
            finding = _run(check, why)
            if check.name == "login" and finding.result == "fail":
                why = "nobody has logged in"
            yield finding


def _run(check: Check, why_not: str) -> Finding:
    if why_not:
        return Finding(check.name, check.title, "skip", why_not)
    try:
        check.run()
    except FailedError as error:
        return Finding(check.name, check.title, "fail", error.detail, error.cure)
    return Finding(check.name, check.title, "pass")


@dataclass(frozen=True, slots=True)
class _Stranger:
    """What holds whoever asks: the user in these requests does not exist."""

    gateway: Gateway
    server: Server

    def checks(self) -> list[Check]:
        policy = self.gateway.policy
        required = policy.require_message_authenticator
        status = "is answered" if policy.status_server else "gets no reply, as configured"
        unsigned = "gets no reply" if required else "is answered, as configured"
        checks = [
            Check("proxy_state", "A reject carries every Proxy-State back", self._proxy_state),
            Check("status_server", f"Status-Server {status}", self._status_server),
            Check(
                "message_authenticator",
                f"A request without Message-Authenticator {unsigned}",
                self._unsigned,
            ),
        ]
        if policy.limit_proxy_state and not required:
            title = "Proxy-State without Message-Authenticator gets no reply"
            checks.append(Check("limit_proxy_state", title, self._unsigned_proxy_state))
        return checks

    def _request(self, *proxy_states: str, signed: bool) -> ClientRequest:
        attributes = {"Proxy-State": proxy_states} if proxy_states else {}
        return self.gateway.request(NOBODY, b"nothing", attributes, signed=signed)

    def _proxy_state(self) -> None:
        request = self._request(*_PROXY_STATES, signed=True)
        reply = self.gateway.expect(Code.ACCESS_REJECT, self.server, request, _LET_IN)
        if reply.values("Proxy-State") != _PROXY_STATES:
            raise FailedError("Proxy-State comes back changed", _BETWEEN)

    def _status_server(self) -> None:
        request = ClientRequest(self.gateway.policy.shared_secret, Code.STATUS_SERVER)
        if self.gateway.policy.status_server:
            self.gateway.ask(self.server, request)
        else:
            self.gateway.expect_silence(self.server, request, _RESTART)

    def _unsigned(self) -> None:
        request = self._request(signed=False)
        if self.gateway.policy.require_message_authenticator:
            self.gateway.expect_silence(self.server, request, _RESTART)
        else:
            self.gateway.expect(Code.ACCESS_REJECT, self.server, request, _LET_IN)

    def _unsigned_proxy_state(self) -> None:
        request = self._request(*_PROXY_STATES, signed=False)
        self.gateway.expect_silence(self.server, request, _RESTART)


@dataclass(slots=True)
class _User:
    """What holds around one good login, which is the first of these checks.

    It may take two rounds: then *answer* gives the code that the first one asks for.
    """

    gateway: Gateway
    line: Line
    second: Server | None
    user: str
    typed: bytes
    answer: Callable[[Reply], bytes]
    _code: bytes | None = None
    _state: bytes | None = None
    _session: str = field(default_factory=lambda: secrets.token_hex(8))
    _request: ClientRequest | None = None
    _reply: Reply | None = None

    def checks(self) -> Iterator[Check]:
        yield Check("login", "A good login is accepted", self._login)
        yield Check(
            "retransmission", "A retransmission gets the same octets back", self._retransmission
        )
        if not self.gateway.policy.failover_grace_seconds:  # or another login is the same one
            title = "The used code is refused to another login"
            yield Check("used_code", title, partial(self._used_code, self.line.server))
            if self.second is not None:
                title = f"{place(self.second)} refuses it too"
                yield Check("second_node_used_code", title, partial(self._used_code, self.second))
        if self.second is not None:  # after the used code, which a node on its own would not know
            title = f"{place(self.second)} answers the same login likewise"
            yield Check("second_node", title, partial(self._failover, self.second))
        yield Check("wrong_code", "A wrong code is rejected", self._wrong_code)

    def _of(self, session: str, typed: bytes, state: bytes | None = None) -> ClientRequest:
        return self.gateway.request(self.user, typed, {"Acct-Session-Id": session}, state=state)

    def _login(self) -> None:
        self._request = self._of(self._session, self.typed)
        self._reply = self.gateway.ask_on(self.line, self._request)
        self._state = self._reply.state
        if self._state is not None:
            self._code = self.answer(self._reply)
            self._request = self._of(self._session, self._code, self._state)
            self._reply = self.gateway.ask_on(self.line, self._request)
        if self._reply.code is not Code.ACCESS_ACCEPT:
            raise FailedError(f"the server answers {self._reply.code.label}", _REJECTED)

    def _retransmission(self) -> None:
        if self._request is None or self._reply is None:
            raise FailedError("there was no login", "")
        again = self.gateway.ask_on(self.line, self._request)
        if again.octets != self._reply.octets:
            raise FailedError(f"it gets {again.code.label} with other octets", _BETWEEN)

    def _failover(self, second: Server) -> None:
        typed = self.typed if self._code is None else self._code
        repeated = self._of(self._session, typed, self._state)
        self.gateway.expect(Code.ACCESS_ACCEPT, second, repeated, _ONE_REDIS)

    def _used_code(self, server: Server) -> None:
        self._refused(server, self.typed if self._code is None else self._code, _ONE_REDIS)

    def _wrong_code(self) -> None:
        typed = self.typed if self._code is None else self._code
        self._refused(self.line.server, with_wrong_code(typed, self.gateway.client), _LET_IN)

    def _refused(self, server: Server, typed: bytes, cure: str) -> None:
        """Log in anew, with *typed* last; raise FailedError with *cure* where it is let in."""
        session = secrets.token_hex(8)
        if self._code is None:
            self.gateway.expect(Code.ACCESS_REJECT, server, self._of(session, typed), cure)
            return
        asked = self._of(session, self.typed)
        state = self.gateway.expect(Code.ACCESS_CHALLENGE, server, asked, _NOT_ASKED).state
        reply = self.gateway.ask(server, self._of(session, typed, state))
        if reply.code is Code.ACCESS_ACCEPT:  # else it is refused, or asked for again
            raise FailedError(f"{place(server)} answers {reply.code.label}", cure)


_LET_IN = "Nobody may get in like that: take the server off the net and report this."
_REJECTED = (
    "The line login.rejected in the server's log has the reason, and docs/reasons.md says what to "
    "do. A code that was used before is refused: wait for the next one."
)
_NOT_ASKED = "The password was right a moment ago: the server's log says what has changed since."
_BETWEEN = (
    "Something between here and the server changes packets, or spreads them over several servers: "
    "packets from one address must come to one of them."
)
_ONE_REDIS = (
    "All nodes need the same redis.url, redis.key_prefix, database.url and key ring: else a code "
    "works once on each of them, and a gateway that fails over loses its users."
)


def with_wrong_code(typed: bytes, client: ClientSettings) -> bytes:
    """Return *typed* with another digit in its code; it differs in nothing else."""
    at = len(typed) - 1 if client.code_position is CodePosition.END else 0
    digit = typed[at : at + 1]
    if not digit.isdigit():
        where = "at the end" if at else "at the beginning"
        raise FailedError(f"there is no code {where} of what was typed", "Type both in one.")
    return typed[:at] + str((int(digit) + 5) % 10).encode() + typed[at + 1 :]


_STYLES = {"pass": "green", "fail": "red", "skip": "yellow"}
_WORDS = {"pass": "pass", "fail": "FAIL", "skip": "skipped"}


def _print(finding: Finding, said: str) -> None:
    """Print a finding; what was *said* of the one before is not said again."""
    output.print(f"{_WORDS[finding.result]:<9}", style=_STYLES[finding.result], end="")
    output.print(finding.title)
    for text in () if finding.detail == said else (finding.detail, finding.cure):
        for line in textwrap.wrap(text, _COLUMNS - len(_INDENT), break_on_hyphens=False):
            output.print(_INDENT + line)


def _summary(findings: list[Finding]) -> str:
    counts = {word: sum(f.result == word for f in findings) for word in _WORDS}
    told = f"{counts['pass']} passed, {counts['fail']} failed"
    return f"{told}, {counts['skip']} skipped." if counts["skip"] else f"{told}."
