"""The application: every page, behind the gate."""

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Scope

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.portal import admin, devices, logins, overview, recovery, resync, sessions, sign_in
from radius_mfa.portal.gate import Gate
from radius_mfa.portal.pages import STATIC, fault_page
from radius_mfa.portal.services import Services, area_of
from radius_mfa.portal.visit import Go, set_token, visitor
from radius_mfa.stores.enrolments import DeviceGone

log = structlog.get_logger()

STATIC_SECONDS = 31_536_000
"""A file that changes gets another path, so browsers may keep one for a year."""


def application(services: Services) -> ASGIApp:
    """Return the portal over *services*."""
    app = FastAPI(
        dependencies=[Depends(visitor)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    for module in (sign_in, overview, devices, recovery, sessions, logins, resync):
        app.include_router(module.router)
    app.include_router(admin.router)
    app.mount("/static", _Static(directory=str(STATIC)))
    app.add_exception_handler(Go, _go)
    app.add_exception_handler(HTTPException, _fault)
    app.add_exception_handler(RequestValidationError, _not_read)
    app.add_exception_handler(Refused, _outdated)
    app.add_exception_handler(DeviceGone, _device_gone)
    app.add_exception_handler(BackendUnavailable, _unavailable)
    app.add_exception_handler(Exception, _failed)
    return Gate(app, services.policy)


class _Static(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = f"public, max-age={STATIC_SECONDS}, immutable"
        return response


async def _go(request: Request, error: Exception) -> Response:
    assert isinstance(error, Go)  # noqa: S101 - by registration
    response = RedirectResponse(error.path, 303)
    if error.forget:
        set_token(response, area_of(request.url.path), error.forget)
    return response


def _page(request: Request, status: int, word: str = "") -> HTMLResponse:
    return HTMLResponse(fault_page(status, area_of(request.url.path).home, word), status)


async def _fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by registration
    page = _page(request, error.status_code, error.detail)
    page.headers.update(error.headers or {})
    return page


async def _outdated(request: Request, _error: Exception) -> Response:
    """Answer for what a form is about, and is there no more: others act at the same time."""
    return _page(request, 409)


async def _device_gone(request: Request, _error: Exception) -> Response:
    return _page(request, 404, "device_gone")


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, BackendUnavailable)  # noqa: S101 - by registration
    path = request.url.path
    log.error("portal.unavailable", backend=error.backend, cause=error.cause, path=path)
    return _page(request, 503)


async def _failed(request: Request, _error: Exception) -> Response:
    return _page(request, 500)  # raised on, and told by the gate


async def _not_read(request: Request, _error: Exception) -> Response:
    return _page(request, 400)
