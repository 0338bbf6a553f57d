"""What stands in front of every page: Host, peer, security headers, and the pages of faults."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import structlog
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radius_mfa.policy.identity import unmapped
from radius_mfa.portal.pages import fault_page
from radius_mfa.portal.services import Policy, area_of

log = structlog.get_logger()

REQUEST_SECONDS = 20.0
"""After this a request has failed, whatever it waits for."""

_IPV6_SITE = 64  # what one household or company gets at least

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",  # with no-referrer a form's Origin would be null
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
HSTS = "max-age=31536000"


class Gate:
    """ASGI in front of the app: refuses what is not meant for it, and answers for its faults."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy
        headers = dict(SECURITY_HEADERS)
        if policy.origin.startswith("https:"):
            headers["strict-transport-security"] = HSTS
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # no websockets here; lifespan is switched off
            return
        if scope["method"] == "HEAD":  # the same, and uvicorn leaves out what it says
            scope = {**scope, "method": "GET"}
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                names = {name for name, _ in message["headers"]}
                added = [(n, v) for n, v in self._headers if n not in names]
                if b"cache-control" not in names:
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        status = self._refused(scope)
        if status is None:
            status = await self._served(scope, receive, send_on)
        if status is not None and not begun:
            response = HTMLResponse(fault_page(status, area_of(scope["path"]).home), status)
            await response(scope, receive, send_on)

    def _refused(self, scope: Scope) -> int | None:
        """Return the status of a request that no page sees; note the source of every other."""
        peer = unmapped(ip_address((scope.get("client") or ("127.0.0.1", 0))[0]))
        headers = scope["headers"]
        trusted = self._trusted(peer)
        if not (self._policy.open_to_peers or trusted or peer.is_loopback):
            return 421
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._policy.hosts:
            return 421
        source = self._forwarded(headers, peer) if trusted else peer
        scope.setdefault("state", {})["source"] = str(source)
        scope["state"]["bucket"] = _bucket(source)
        return None

    def _trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._policy.trusted_proxies)

    def _forwarded(
        self, headers: list[tuple[bytes, bytes]], peer: IPv4Address | IPv6Address
    ) -> IPv4Address | IPv6Address:
        """Return the last address on the way that is not one of our proxies."""
        text = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        source = peer
        for hop in reversed(text.decode("latin-1").split(",")):
            try:
                source = unmapped(ip_address(hop.strip().strip("[]")))
            except ValueError:
                break
            if not self._trusted(source):
                break
        return source

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> int | None:
        """Let the app answer; return the status of the fault where it can't."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._app(scope, receive, send)
        except TimeoutError:
            log.error("portal.unavailable", backend="deadline", path=scope["path"])  # noqa: TRY400
            return 503
        except Exception as error:
            log.error("portal.failed", exc_info=error, path=scope["path"])  # noqa: TRY400 - no traceback
            return 500
        return None


def _bucket(source: IPv4Address | IPv6Address) -> str:
    """Return what tries are counted by: an address, or with IPv6 the network of a site."""
    if isinstance(source, IPv4Address):
        return str(source)
    return str(ip_network((int(source), _IPV6_SITE), strict=False))
