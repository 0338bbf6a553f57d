"""The portal's process: how it starts, what it refuses, what it does when a backend is away."""

import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from radius_mfa import portal_process
from radius_mfa.errors import BackendError, ConfigurationError, OperatorError, Refused
from radius_mfa.portal_process import HEAD_SECONDS
from radius_mfa.stores.events import EventQueue
from tests.support.certificates import Authority
from tests.support.portal import PortalProcess, forms, text_of
from tests.support.redis import RealRedis
from tests.support.server import PASSWORD, PATIENCE_SECONDS, Site
from tests.support.totp import code


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"enabled": False}, Refused, "the portal is switched off"),
        ({"listen": "0.0.0.0:0"}, ConfigurationError, "without TLS, and passwords go there"),
        (
            {"listen": "192.0.2.1:0", "trusted_proxies": "192.0.2.9"},
            ConfigurationError,
            "can't serve 192.0.2.1:0",
        ),
        ({"certificate_file": "portal.pem"}, ConfigurationError, "go together"),
        (
            {"certificate_file": "a.pem", "certificate_key_file": "a.key"},
            ConfigurationError,
            "certificate of .portal. can't be used: No such file",
        ),
        ({"base_url": "http://mfa.corp.example"}, ConfigurationError, "must begin with https://"),
        ({"base_url": "https://mfa.corp.example/portal"}, ConfigurationError, "without a path"),
        ({"base_url": "mfa.corp.example"}, ConfigurationError, "is not a URL"),
    ],
)
async def test_a_portal_that_would_be_unsafe_does_not_start(
    site: Site, settings: dict[str, object], kind: type[OperatorError], message: str
) -> None:
    """What is wrong is said in a line."""
    site.top = {"allow_core_dumps": True}  # this process stays as it is
    site.sections = {"portal": settings}
    site.write_config()
    with pytest.raises(kind, match=message) as refused:
        await portal_process.serve(site.settings, EventQueue())
    assert refused.value.cure or "base_url" in refused.value.message


def test_server_does_not_load_the_web_framework() -> None:
    """``serve`` stays as small as it was; the portal is another process."""
    program = (
        "import sys, radius_mfa.cli\n"
        "print([name for name in ('fastapi', 'starlette', 'jinja2', 'uvicorn')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_tls_by_files(portal_site: Site, tmp_path: Path) -> None:
    """TLS 1.2 at least, HSTS, and the cookie works; plain HTTP on that port gets nothing."""
    authority = Authority(tmp_path)
    authority.issue("portal", ["localhost"])
    with PortalProcess(
        portal_site,
        RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="10000",  # others try at this Redis too
        RADIUS_MFA_PORTAL__CERTIFICATE_FILE=str(tmp_path / "portal.pem"),
        RADIUS_MFA_PORTAL__CERTIFICATE_KEY_FILE=str(tmp_path / "portal.key"),
    ) as portal:
        assert portal.origin.startswith("https://localhost:")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with httpx.Client(base_url=portal.origin, verify=trusted, trust_env=False) as client:
            page = client.get("/sign-in")
            assert page.status_code == 200
            assert page.headers["strict-transport-security"] == "max-age=31536000"
            fields = {**forms(page)["/sign-in"], "name": "nobody", "password": "x"}
            page = client.post("/sign-in", data=fields, headers={"origin": portal.origin})
            assert page.status_code == 422
        old = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        with httpx.Client(base_url=portal.origin, verify=old, trust_env=False) as client:
            assert client.get("/sign-in").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{portal.listen}/sign-in", trust_env=False)


def test_connections_that_never_ask_are_closed_and_leave_room_for_others(
    portal: PortalProcess,
) -> None:
    """Else whoever opens as many as are served at once shuts everybody out, for as long."""
    host, port = portal.listen.rsplit(":", 1)
    origin = portal.origin.partition("://")[2].encode()
    begun = b"GET /sign-in HTTP/1.1\r\nHost: " + origin
    with ExitStack() as stack:
        silent, one_begun, second_begun = (
            stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(3)
        )
        one_begun.sendall(begun)
        second_begun.sendall(begun + b"\r\n\r\n")
        answer = second_begun.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        second_begun.sendall(begun)
        for opened in (silent, one_begun, second_begun):
            opened.settimeout(HEAD_SECONDS + PATIENCE_SECONDS)
        assert (_until_closed(silent), _until_closed(one_begun)) == (b"", b"")
        assert b"HTTP/1.1" not in _until_closed(second_begun), "what is left of the page, at most"


def test_what_anybody_can_send_fills_no_log(portal: PortalProcess) -> None:
    """Neither octets that are no HTTP nor a wish for a websocket is worth a line."""
    host, port = portal.listen.rsplit(":", 1)
    before = portal.text
    with socket.create_connection((host, int(port))) as opened:
        opened.sendall(b"\0rubbish\r\n\r\n")
        assert _until_closed(opened).startswith(b"HTTP/1.1 400 ")
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    assert portal.browser(**upgrade).get("/sign-in").status_code == 200
    assert portal.text == before


def _until_closed(connection: socket.socket) -> bytes:
    octets = b""
    while received := connection.recv(65_536):
        octets += received
    return octets


def test_without_redis_every_page_says_to_try_again(tmp_path: Path) -> None:
    """503, also for whoever is signed in; the portal goes on by itself when Redis is back."""
    with RealRedis() as redis, Site(tmp_path, {"redis": {"url": redis.url}}) as site:
        site.add_users(["alice"])
        with PortalProcess(site) as portal:
            browser, nobody = portal.browser(), portal.browser()
            page = browser.sign_in("alice", PASSWORD, code())
            form = nobody.get("/sign-in")
            redis.hang()
            for refused in (
                browser.get("/", follow=False),
                nobody.send(form, "/sign-in", name="alice", password=PASSWORD),
            ):
                assert refused.status_code == 503
                assert "look what was done, and try again" in text_of(refused)
                assert "set-cookie" not in refused.headers
            redis.go_on()
            assert "Hello, alice" in text_of(browser.get("/"))
            assert '"event":"portal.unavailable","backend":"redis"' in portal.text
            assert browser.send(page, "/sign-out").status_code == 200


async def test_embedded_redis_is_the_server_s(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server there is none to share, and the portal says so after a while."""
    site.top = {"allow_core_dumps": True}
    site.sections = {"portal": {"listen": "127.0.0.1:0"}}
    site.write_config()
    monkeypatch.setattr(portal_process, "SERVER_WAIT_SECONDS", 0.1)
    with pytest.raises(BackendError) as refused:
        await portal_process.serve(site.settings, EventQueue())
    assert refused.value.cure == "start it first: radius-mfa serve"
