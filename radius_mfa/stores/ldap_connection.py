"""One connection to an LDAP server, driven by the event loop.

libldap gets a connected socket that does not block. Each operation is a message id, a future, and
the loop's word that there is something to read: neither a thread, nor a server that sends half
an answer, holds anything up (docs/adr/0011-ldap-without-threads.md).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ldap
from ldap.controls import RequestControl, ResponseControl, SimplePagedResultsControl
from ldap.ldapobject import SimpleLDAPObject

from radius_mfa.stores.ldap_answers import INVALID_CREDENTIALS, PASSWORD_POLICY_OID, Entry, Reply
from radius_mfa.stores.ldap_transport import LdapFault, Target, Way, reach

PAGE_ENTRIES = 500
"""Entries asked for at a time; Active Directory gives 1000 at most."""

_NOWHERE = "ldapi://%2Fnowhere"
"""Where libldap would connect anew by itself: it shall not."""


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

    def __init__(self, handle: SimpleLDAPObject, timeout_seconds: float, way: Way) -> None:
        """Take a *handle* over *way*; an operation that takes longer ends the connection."""
        self._handle = handle
        self._way = way
        self.timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._asked: tuple[int, asyncio.Future[Reply]] | None = None
        self._awaited = 0
        self._classes: dict[str, Any] = _RAW
        self._entries: list[Entry] = []
        self.fault: LdapFault | None = None
        self.used_at = self._loop.time()
        self.tls = way.tls
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
        timer = self._loop.call_later(self.timeout_seconds, self._late)
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
        self.close(LdapFault("timeout", f"no answer within {self.timeout_seconds:g} s"))

    def _readable(self) -> None:
        """Take what has come; one message at a time, for only so None says that there is no more.

        libldap may hold several messages of which the socket shows nothing any more.
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
        self._way.end()
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
    """Connect to *target* and bind as *account*, None for no bind at all, or raise LdapFault."""
    way = await reach(target)
    try:
        handle = _handle(way)
    except BaseException:
        os.close(way.fd)
        way.end()
        raise
    connection = LdapConnection(handle, target.timeout_seconds, way)
    if account is None or not account.name:
        return connection
    try:
        reply = await connection.bind(account.name, account.password)
    except ValueError:
        connection.close()
        raise LdapFault("bind", f"the search account {account.name} has no password") from None
    except BaseException:
        connection.close()
        raise
    if reply.code:
        connection.close()
        wrong = reply.code == INVALID_CREDENTIALS
        why = "wrong bind_password?" if wrong else f"LDAP result {reply.code} {reply.diagnostic}"
        raise LdapFault("bind", f"the search account {account.name} is refused: {why}")
    return connection


def _handle(way: Way) -> SimpleLDAPObject:
    handle = ldap.initialize(_NOWHERE, fileno=way.fd)
    handle.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    handle.set_option(ldap.OPT_REFERRALS, ldap.OPT_OFF)
    return handle
