"""The clients: what is set of each, what it was seen to send, and requiring its signature."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.errors import Refused
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Deciding, Seeing
from radius_mfa.portal.visit import Go
from radius_mfa.stores.clients_seen import may_be_required

router = APIRouter(prefix=f"{HOME}/clients")


@router.get("")
async def show(desk: Seeing) -> Response:
    """Show every ``[[client]]``."""
    return await _page(desk)


@router.post("/require-signature")
async def require_signature(desk: Deciding) -> Response:
    """Require Message-Authenticator of a client that was seen to send it always."""
    name = _known(desk)
    seen = [one for one in await desk.office.clients_seen.all() if one.client == name]
    if not may_be_required(seen, _moment(desk)):
        return await _page(desk, 422, error="not_ready_to_sign")
    with desk.visit.acting():
        try:
            await desk.office.signed_clients.require(name)
        except Refused:  # another admin was faster
            raise Go(f"{HOME}/clients") from None
    return await desk.visit.go(f"{HOME}/clients", notice="signature_required")


@router.post("/leave-signature")
async def leave_signature(desk: Deciding) -> Response:
    """Leave it to the configuration again."""
    name = _known(desk)
    with desk.visit.acting():
        try:
            await desk.office.signed_clients.withdraw(name)
        except Refused:  # another admin was faster
            raise Go(f"{HOME}/clients") from None
    return await desk.visit.go(f"{HOME}/clients", notice="signature_left")


async def _page(desk: AdminVisit, status: int = 200, error: str = "") -> Response:
    office, now = desk.office, _moment(desk)
    seen, signed = await office.clients_seen.all(), await office.signed_clients.all()
    rows = [
        (client, of_client, client.name in signed, may_be_required(of_client, now))
        for client in office.clients
        for of_client in [[one for one in seen if one.client == client.name]]
    ]
    return await desk.page("clients.html", status, rows=rows, error=error)


def _known(desk: AdminVisit) -> str:
    """Return the client that the form names; Go where there is none such."""
    name = desk.visit.field("client")
    if name not in {client.name for client in desk.office.clients}:
        raise Go(f"{HOME}/clients")
    return name


def _moment(desk: AdminVisit) -> datetime:
    return datetime.fromtimestamp(desk.now, UTC)
