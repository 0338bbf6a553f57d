"""One connection to an LDAP server: opened in a thread, driven by the event loop from then on.

libldap connects, resolves names and greets by TLS in blocking calls, so opening needs a thread.
After that the socket is made non-blocking, and each operation is a message id, a future, and the
loop's word that there is something to read: neither a thread, nor a server that sends half an
answer, holds anything up (docs/adr/0011-ldap-without-threads.md).
"""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ldap
from ldap.controls import RequestControl, ResponseControl, SimplePagedResultsControl
from ldap.ldapobject import SimpleLDAPObject

from radius_mfa.stores.ldap_answers import PASSWORD_POLICY_OID, Entry, Reply

T = TypeVar("T")

PAGE_ENTRIES = 500
"""Entries asked for at a time; Active Directory gives 1000 at most."""

_TLS_MINIMUM = {"1.2": ldap.OPT_X_TLS_PROTOCOL_TLS1_2, "1.3": ldap.OPT_X_TLS_PROTOCOL_TLS1_3}
_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"


class LdapFault(Exception):
    """The server gave no answer. *kind* is one word for metrics; the text is for the log."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to reach it; ``ldap://`` is upgraded by StartTLS unless told otherwise."""

    uri: str
    start_tls: bool = True
    ca_file: Path | None = None
    verify_certificate: bool = True
    tls_minimum: str = "1.2"
    timeout_seconds: float = 1.5

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted, or does not leave this machine."""
        return self.start_tls or not self.uri.startswith("ldap://")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that searches; an empty name is an anonymous one."""

    name: str = ""
    password: str = field(default="", repr=False)


class _PolicyRequest(RequestControl):  # type: ignore[misc]  # python-ldap has no types
    """Ask for the reasons of a failed bind (draft-behera-ldap-password-policy)."""

    def __init__(self) -> None:
        super().__init__(PASSWORD_POLICY_OID, criticality=False)
        self.encodedControlValue = None


class _RawResponse(ResponseControl):  # type: ignore[misc]
    """A response control whose value is left as octets."""

    def decodeControlValue(self, encodedControlValue: bytes) -> None:  # noqa: N802, N803 - python-ldap's
        self.value = encodedControlValue


_POLICY_REQUEST = [_PolicyRequest()]
_RAW = {PASSWORD_POLICY_OID: _RawResponse}
_PAGED = {SimplePagedResultsControl.controlType: SimplePagedResultsControl}


class LdapConnection:
    """An open connection; one operation at a time, so that no answer can be taken for another's."""

    def __init__(self, handle: SimpleLDAPObject, timeout_seconds: float) -> None:
        """Take a connected *handle*; an operation that takes longer ends the connection."""
        self._handle = handle
        self._timeout = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._asked: tuple[int, asyncio.Future[Reply]] | None = None
        self._awaited = 0
        self._classes: dict[str, Any] = _RAW
        self._entries: list[Entry] = []
        self.fault: LdapFault | None = None
        self.used_at = self._loop.time()
        self.tls: str = handle.get_option(ldap.OPT_X_TLS_VERSION) or ""
        self._fd: int = handle.fileno()
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._readable)

    async def bind(self, name: str, password: str) -> Reply:
        """Bind as *name*; an empty password would be no proof, so it is refused here as well."""
        if not name or not password:
            raise ValueError("an unauthenticated bind (RFC 4513 section 5.1.2)")
        return await self._answer(
            lambda: self._handle.simple_bind(name, password, serverctrls=_POLICY_REQUEST),
            ldap.RES_BIND,
        )

    async def search(
        self, base: str, scope: int, query: str, attributes: Sequence[str], limit: int = 0
    ) -> Reply:
        """Search; *limit* is the most entries that are wanted, 0 for any number."""
        return await self._answer(
            lambda: self._handle.search_ext(
                base, scope, query, list(attributes), sizelimit=limit, timeout=-1
            )
        )

    async def search_pages(
        self, base: str, query: str, attributes: Sequence[str], limit: int
    ) -> Reply:
        """Search the tree under *base* page by page, up to *limit* entries and the page after."""
        control = SimplePagedResultsControl(criticality=False, size=PAGE_ENTRIES, cookie="")
        entries: list[Entry] = []
        while True:
            reply = await self._answer(
                lambda: self._handle.search_ext(
                    base, ldap.SCOPE_SUBTREE, query, list(attributes), serverctrls=[control]
                ),
                classes=_PAGED,
            )
            entries += reply.entries
            control.cookie = next((one.cookie for one in reply.controls), b"")
            if reply.code or not control.cookie or len(entries) > limit:
                return Reply(reply.code, reply.diagnostic, entries)

    async def _answer(
        self,
        ask: Callable[[], int],
        awaited: int = ldap.RES_SEARCH_RESULT,
        classes: dict[str, Any] = _RAW,
    ) -> Reply:
        if self.fault is not None:
            raise self.fault
        self._entries, self._awaited, self._classes = [], awaited, classes
        future: asyncio.Future[Reply] = self._loop.create_future()
        try:
            self._asked = (ask(), future)
        except ldap.LDAPError as error:
            self.close(_fault(error))
            raise self.fault or _fault(error) from None
        timer = self._loop.call_later(self._timeout, self._late)
        try:
            return await future
        except asyncio.CancelledError:
            self.close(LdapFault("cancelled", "given up while the server was asked"))
            raise
        finally:
            timer.cancel()
            self._asked = None
            self.used_at = self._loop.time()

    def _late(self) -> None:
        self.close(LdapFault("timeout", f"no answer within {self._timeout:g} s"))

    def _readable(self) -> None:
        """Take what has come; one message at a time, for only so None says that there is no more.

        TLS may hold several messages of which the socket shows nothing any more.
        """
        message = ldap.RES_ANY if self._asked is None else self._asked[0]
        try:
            while True:
                kind, data, _, controls, _, _ = self._handle.result4(
                    message, 0, 0, resp_ctrl_classes=self._classes
                )
                if kind is None:
                    return
                if kind == ldap.RES_SEARCH_ENTRY:
                    self._entries += [_entry(name, values) for name, values in data]
                elif kind == self._awaited:
                    self._settle(Reply(0, "", self._entries, controls))
                    return
                elif kind != ldap.RES_SEARCH_REFERENCE:  # referrals are not followed
                    self.close(LdapFault("protocol", "the server's answer is not to the question"))
                    return
        except UnicodeDecodeError:
            self.close(LdapFault("protocol", "the server sent a name that is not UTF-8"))
        except ldap.LDAPError as error:
            known = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
            if known.get("result", -1) > 0 and self._asked is not None:
                self._settle(_refusal(known, self._entries))
            else:
                self.close(_fault(error))

    def _settle(self, reply: Reply) -> None:
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_result(reply)

    def close(self, fault: LdapFault | None = None) -> None:
        """End the connection; whoever waits for an answer gets *fault*."""
        if self.fault is not None:
            return
        self.fault = fault or LdapFault("closed", "the connection is closed")
        self._loop.remove_reader(self._fd)
        with suppress(ldap.LDAPError):
            self._handle.unbind_ext()
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_exception(self.fault)


def _entry(name: str, values: dict[str, list[bytes]]) -> Entry:
    return name, {attribute.lower(): value for attribute, value in values.items()}


def _refusal(known: dict[str, Any], entries: list[Entry]) -> Reply:
    controls = [
        _raw(oid, value) for oid, _, value in known.get("ctrls", ()) if oid == PASSWORD_POLICY_OID
    ]
    return Reply(known["result"], str(known.get("info", "")), entries, controls)


def _raw(oid: str, value: bytes) -> _RawResponse:
    control = _RawResponse(oid)
    control.decodeControlValue(value)
    return control


def _fault(error: Exception) -> LdapFault:
    known = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    text = str(known.get("desc") or type(error).__name__)
    info = str(known.get("info") or "")
    detail = f": {info}" if info and info != text else ""
    return LdapFault("connection", text + detail)


async def open_connection(target: Target, account: Account | None) -> LdapConnection:
    """Connect to *target* and bind as *account*, None for no bind at all, or raise LdapFault.

    The thread that does it is a daemon: a resolver that hangs holds nothing up but itself.
    """
    handle = await in_daemon_thread(lambda: _connected(target, account))
    return LdapConnection(handle, target.timeout_seconds)


def _connected(target: Target, account: Account | None) -> SimpleLDAPObject:
    handle = ldap.initialize(target.uri)
    try:
        _configure(handle, target)
        if target.start_tls and target.uri.startswith("ldap://"):
            handle.start_tls_s()
        _reach(handle, target)
    except (ldap.LDAPError, ValueError) as error:
        raise _why_not(target, error) from None
    if account is not None and account.name:
        try:
            handle.simple_bind_s(account.name, account.password)
        except ldap.INVALID_CREDENTIALS:
            raise LdapFault(
                "bind", f"the search account {account.name} is refused: wrong bind_password?"
            ) from None
        except ldap.LDAPError as error:
            raise LdapFault(
                "bind", f"the search account {account.name} is refused: {_fault(error)}"
            ) from None
    return handle


def _configure(handle: SimpleLDAPObject, target: Target) -> None:
    ca_file = target.ca_file or next(
        (file for file in _SYSTEM_CA_FILES if Path(file).exists()), None
    )
    demand = ldap.OPT_X_TLS_DEMAND if target.verify_certificate else ldap.OPT_X_TLS_NEVER
    handle.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    handle.set_option(ldap.OPT_REFERRALS, ldap.OPT_OFF)
    handle.set_option(ldap.OPT_NETWORK_TIMEOUT, target.timeout_seconds)
    handle.set_option(ldap.OPT_TIMEOUT, target.timeout_seconds)
    handle.set_option(ldap.OPT_X_KEEPALIVE_IDLE, 60)
    handle.set_option(ldap.OPT_X_KEEPALIVE_PROBES, 3)
    handle.set_option(ldap.OPT_X_KEEPALIVE_INTERVAL, 5)
    if not target.secure:
        return
    handle.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, demand)
    if ca_file and target.verify_certificate:
        handle.set_option(ldap.OPT_X_TLS_CACERTFILE, str(ca_file))
    handle.set_option(ldap.OPT_X_TLS_PROTOCOL_MIN, _TLS_MINIMUM[target.tls_minimum])
    handle.set_option(ldap.OPT_X_TLS_NEWCTX, 0)


def _reach(handle: SimpleLDAPObject, target: Target) -> None:
    """Ask for the root of the tree: libldap connects when something is asked.

    Whatever the server says to it, "not without a bind" too, it is there.
    """
    message = handle.search_ext("", ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"])
    try:
        handle.result4(message, 1, target.timeout_seconds)
    except (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT):
        raise
    except ldap.LDAPError as error:
        if error.args[0].get("result", -1) < 0:
            raise


def _why_not(target: Target, error: Exception) -> LdapFault:
    """Say why *target* can't be used; TLS's reasons come from a second look, by Python's ssl."""
    if isinstance(error, ldap.TIMEOUT):
        return LdapFault("timeout", f"no answer within {target.timeout_seconds:g} s")
    encrypted = target.secure and not target.uri.startswith("ldapi://")
    return (encrypted and _tls_fault(target)) or _fault(error)


def _tls_fault(target: Target) -> LdapFault | None:
    try:
        _look_at_tls(target)
    except ssl.SSLCertVerificationError as found:
        return LdapFault("tls", f"its certificate is refused: {found.verify_message}")
    except ssl.SSLError as found:
        return LdapFault("tls", f"no TLS: {found.reason or 'the handshake failed'}")
    except TimeoutError:
        return LdapFault("timeout", f"no TLS within {target.timeout_seconds:g} s")
    except OSError as found:
        return LdapFault("connection", found.strerror or type(found).__name__)
    return None


def _look_at_tls(target: Target) -> None:
    address = urlsplit(target.uri)
    host = address.hostname or "localhost"
    context = ssl.create_default_context(cafile=target.ca_file)
    context.minimum_version = ssl.TLSVersion[f"TLSv{target.tls_minimum.replace('.', '_')}"]
    if not target.verify_certificate:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = address.port or (636 if address.scheme == "ldaps" else 389)
    with socket.create_connection((host, port), target.timeout_seconds) as plain:
        if address.scheme == "ldap":
            plain.sendall(_START_TLS)
            plain.recv(4096)
        with context.wrap_socket(plain, server_hostname=host):
            pass


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Return what *work* returns in a thread of its own that the process's end does not wait for.

    A caller who gives up leaves the thread running: keep count of them.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], None]) -> None:
        if not future.done():
            result()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            fault = error
            report: Callable[[], None] = lambda: future.set_exception(fault)  # noqa: E731
        else:
            report = lambda: future.set_result(value)  # noqa: E731
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, report)

    threading.Thread(target=run, daemon=True, name="ldap-connect").start()
    return await future
