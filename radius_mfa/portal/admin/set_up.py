"""The first sign-in of an admin: a password of their own, then a second factor."""

from dataclasses import replace
from time import time

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.errors import Refused
from radius_mfa.policy import recovery
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.roles import MIN_PASSWORD_CHARACTERS
from radius_mfa.policy.totp import Device
from radius_mfa.portal import new_device
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Beginning
from radius_mfa.portal.visit import Go
from radius_mfa.stores.interfaces import PasswordVerdict

router = APIRouter(prefix="/admin")

DEVICE_NAME = "Phone"


@router.get("/password")
async def show_password(desk: Beginning) -> Response:
    """Ask for a password in place of the one-time one."""
    _with_one_time_password(desk)
    return await desk.page("password.html")


@router.post("/password")
async def choose_password(desk: Beginning) -> Response:
    """Take it; every other session of the admin is over with the one-time password."""
    _with_one_time_password(desk)
    visit, directory = desk.visit, desk.office.directory
    password, again = visit.field("password"), visit.field("again")
    error = ""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        error = "password_short"
    elif password != again:
        error = "passwords_differ"
    else:
        enrolment: Enrolment = await visit.services.enrolments.fetch(desk.session.user)
        verdict = await directory.verify(desk.session.user, password, enrolment)
        error = "password_same" if verdict is PasswordVerdict.ONE_TIME else ""
    if error:
        return await desk.page("password.html", 422, error=error)
    with visit.acting():
        try:
            hashed = await directory.hashed(password)
            await desk.office.admins.choose_password(desk.session.user, hashed)
        except Refused:  # another tab was faster
            raise Go(HOME) from None
    await visit.begin(replace(desk.session, began_at=time()))
    return await visit.go(HOME)


@router.get("/set-up")
async def show(desk: Beginning) -> Response:
    """Say what comes."""
    _without_factor(desk)
    return await desk.page("set_up.html")


@router.post("/set-up")
async def begin(desk: Beginning) -> Response:
    """Make a seed, shown to this session alone until its first code came."""
    _without_factor(desk)
    await desk.visit.limit_changes(desk.session.user)
    with desk.visit.acting():
        try:
            await new_device.begin(desk.visit, desk.session, DEVICE_NAME)
        except Refused:  # another tab has set it up by now
            raise Go(HOME) from None
    return await desk.visit.go(f"{HOME}/set-up/confirm")


@router.get("/set-up/confirm")
async def show_confirm(desk: Beginning) -> Response:
    """Show the QR code and the key, and ask for the first code."""
    return await _confirm_page(desk, await _pending(desk))


@router.post("/set-up/confirm")
async def confirm(desk: Beginning) -> Response:
    """Take the first code: the session has proven both factors, and the portal is open."""
    visit, device = desk.visit, await _pending(desk)
    step = new_device.first_step(visit, device)
    if step is None:
        return await _confirm_page(desk, device, 422, error="first_code")
    with visit.acting():
        try:
            services, user = visit.services, desk.session.user
            await services.enrolments.confirm_device(user, device.device_id, step)
            codes = await services.recovery_codes.renew(user)
        except Refused:  # a second click, or a reset, was faster
            raise Go(HOME) from None
    await new_device.finish(visit, desk.session)
    return await desk.page("set_up_codes.html", codes=[recovery.shown(one) for one in codes])


async def _confirm_page(
    desk: AdminVisit, device: Device, status: int = 200, error: str = ""
) -> Response:
    shown = new_device.shown(desk.visit, device, desk.record.name)
    return await desk.page("set_up_confirm.html", status, error=error, **shown)


async def _pending(desk: AdminVisit) -> Device:
    """Return the device that this session is about to set up; Go where there is none."""
    _without_factor(desk)
    device = await new_device.pending(desk.visit, desk.session)
    if device is None:
        raise Go(f"{HOME}/set-up")
    return device


def _with_one_time_password(desk: AdminVisit) -> None:
    if desk.admin.one_time_until is None:
        raise Go(HOME)


def _without_factor(desk: AdminVisit) -> None:
    """Let nobody enrol who has a second factor, or still the password they were given."""
    if desk.session.proved_at is not None or desk.admin.one_time_until is not None:
        raise Go(HOME)
