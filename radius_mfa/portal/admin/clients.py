"""The clients: what is set of each, what it was seen to send, and requiring its signature."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.admin.desk import HOME, Seeing
from radius_mfa.stores.clients_seen import may_be_required

router = APIRouter(prefix=HOME)


@router.get("/clients")
async def show(desk: Seeing) -> Response:
    """Show every ``[[client]]``."""
    now = datetime.fromtimestamp(desk.now, UTC)
    seen = await desk.office.clients_seen.all()
    rows = [
        (client, of_client, may_be_required(of_client, now))
        for client in desk.office.clients
        for of_client in [[one for one in seen if one.client == client.name]]
    ]
    return await desk.page("clients.html", rows=rows)
