"""The first page of admins."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.admin.desk import Seeing

router = APIRouter(prefix="/admin")


@router.get("")
async def show(desk: Seeing) -> Response:
    """Show where everything stands."""
    return await desk.page("dashboard.html")
