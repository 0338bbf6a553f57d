"""A real portal process, and a browser without pictures: forms and cookies over plain HTTP."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.server import PATIENCE_SECONDS, Site, eventually

_STARTED = re.compile(r'"event":"portal\.started".*?"listen":"([^"]+)","address":"([^"]+)"')


class PortalProcess:
    """A ``radius-mfa portal`` process over the configuration of *site*; its log goes to a file."""

    def __init__(self, site: Site, **environ: str) -> None:
        """Start it and wait until it serves; the site's server has to run already."""
        self.site = site
        self.log_file = site.folder / f"portal-{len(list(site.folder.glob('portal-*')))}.log"
        environ = {"RADIUS_MFA_PORTAL__LISTEN": "127.0.0.1:0", **environ}
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "radius_mfa", "-c", str(site.config), "portal"],
                stdout=output,
                stderr=output,
                env=os.environ | environ,
                start_new_session=True,
            )
        eventually(
            lambda: _STARTED.search(self.text) or self.process.poll() is not None,
            "the portal to start",
        )
        started = _STARTED.search(self.text)
        assert started is not None, f"the portal ended: {self.text}"
        self.listen, self.origin = started.groups()
        self.client = httpx.Client(
            base_url=f"http://{self.listen}", timeout=PATIENCE_SECONDS, trust_env=False
        )

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log_file.read_text("utf-8")

    def browser(self, **headers: str) -> "Browser":
        """Return a browser that has been nowhere yet."""
        return Browser(self, headers)

    def stop(self) -> int:
        """End the portal as an operator would; return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        for canary in self.site.canaries:
            assert canary not in self.text, f"{canary!r} stands in the portal's log"
        assert "portal.failed" not in self.text, self.text


class Browser:
    """Keeps cookies as browsers do on a host they trust, and sends the forms of pages.

    Redirects are followed unless *follow* is false.
    """

    def __init__(self, portal: PortalProcess, headers: dict[str, str]) -> None:
        self.portal = portal
        self.cookies: dict[str, str] = {}
        host = portal.origin.partition("://")[2]
        self.headers = {"host": host, "user-agent": "Test browser", **headers}

    def request(
        self, method: str, path: str, *, follow: bool = True, **options: Any
    ) -> "httpx.Response":
        headers = {**self.headers, **options.pop("headers", {})}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        response = self.portal.client.request(method, path, headers=headers, **options)
        self.portal.client.cookies.clear()  # each browser minds its own
        for cookie in response.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        if follow and response.status_code in (302, 303, 307):
            return self.request("GET", response.headers["location"])
        return response

    def get(self, path: str, **options: Any) -> "httpx.Response":
        return self.request("GET", path, **options)

    def post(self, path: str, fields: dict[str, str], **options: Any) -> "httpx.Response":
        """Send *fields* as they are, from our own origin unless *options* say otherwise."""
        headers = {"origin": self.portal.origin, **options.pop("headers", {})}
        return self.request("POST", path, data=fields, headers=headers, **options)

    def send(self, page: "httpx.Response", action: str, **fields: str) -> "httpx.Response":
        """Fill in the form of *page* that goes to *action*, and send it."""
        hidden = forms(page)[action]
        assert fields.keys() <= hidden.keys(), f"{action} has the fields {sorted(hidden)}"
        return self.post(action, {**hidden, **fields})

    def sign_in(self, name: str, password: str, code: str = "") -> "httpx.Response":
        """Sign in, with *code* as the second step where one is given; return the last page."""
        page = self.send(self.get("/sign-in"), "/sign-in", name=name, password=password)
        if code:
            page = self.send(page, "/sign-in/code", code=code)
        return page


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self._open: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = self.forms.setdefault(given["action"], {})
        elif tag == "input" and "name" in given:
            self._open[given["name"]] = given.get("value", "")


def forms(page: "httpx.Response") -> dict[str, dict[str, str]]:
    """Return the forms of a page by where they go: their fields and values."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


def text_of(page: "httpx.Response") -> str:
    """Return what a page says in its main part, without tags."""
    main = page.text.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def screenshots() -> Path | None:
    """Return the folder that pictures of pages go to, if somebody wants to look at them."""
    folder = os.environ.get("PORTAL_PICTURES")
    return Path(folder) if folder else None
