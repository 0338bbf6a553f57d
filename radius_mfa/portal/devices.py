"""Devices of the user: set up, rename, remove."""

from contextlib import suppress
from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.errors import Refused
from radius_mfa.policy.new_device import MAX_NAME_CHARACTERS
from radius_mfa.policy.totp import Device
from radius_mfa.portal import new_device, recovery
from radius_mfa.portal.proof import code_proven
from radius_mfa.portal.visit import Enrolling, Go, SignedIn, UserVisit
from radius_mfa.stores.enrolments import DeviceGone, NameTaken

router = APIRouter(prefix="/devices")

MAX_DEVICES = 10
"""Each device makes a guess at a code more likely to be right."""

MAX_WAITING = 3
"""Devices that wait for their first code, of sessions that were left as well."""

FIRST_NAME = "Phone"


@router.get("/new")
async def show_new(user: Enrolling) -> Response:
    """Ask what the new device shall be called."""
    _fresh(user)
    return await user.page("device_new.html", name="" if user.record.confirmed else FIRST_NAME)


@router.post("/new")
async def new(user: Enrolling) -> Response:
    """Make a seed; it is shown to this session alone, and until its first code came."""
    _fresh(user)
    name = user.visit.field("name").strip()
    error = _name_error(user, name)
    confirmed = [device for device in user.record.devices if device.confirmed_at]
    if not error and len(confirmed) >= MAX_DEVICES:
        error = "too_many_devices"
    if error:
        return await user.page("device_new.html", 422, name=name, error=error)
    await user.visit.limit_changes(user.session.user)
    with user.visit.acting():
        await _make_room(user)
        try:
            await new_device.begin(user.visit, user.session, name)
        except NameTaken:  # another tab was faster
            error = "device_name_taken"
            return await user.page("device_new.html", 422, name=name, error=error)
    return await user.visit.go("/devices/confirm")


@router.get("/confirm")
async def show_confirm(user: Enrolling) -> Response:
    """Show the QR code and the key, and ask for the first code."""
    return await _confirm_page(user, await _pending(user))


@router.post("/confirm")
async def confirm(user: Enrolling) -> Response:
    """Take the first code: from now on the device counts, and the session has proven it."""
    visit, device = user.visit, await _pending(user)
    step = new_device.first_step(visit, device)
    if step is None:
        return await _confirm_page(user, device, 422, error="first_code")
    first, owner = not user.record.confirmed, user.session.user
    with visit.acting():
        try:
            await visit.services.enrolments.confirm_device(owner, device.device_id, step)
        except Refused:  # a second click, or an admin's reset, was faster
            raise Go("/") from None
        await new_device.finish(visit, user.session)
        if first:
            return await recovery.renewed(user, device=device.name)
    return await visit.go("/", notice="device_added")


@router.get("/{device_id}/rename")
async def show_rename(user: SignedIn, device_id: str) -> Response:
    """Ask for another name."""
    device = user.device(device_id)
    return await user.page("device_rename.html", device=device, name=device.name)


@router.post("/{device_id}/rename")
async def rename(user: SignedIn, device_id: str) -> Response:
    """Give the device another name."""
    device, name = user.device(device_id), user.visit.field("name").strip()
    error = _name_error(user, name, but=device_id)
    if not error:
        await user.visit.limit_changes(user.session.user)
        with user.visit.acting():
            try:
                await user.visit.services.enrolments.rename_device(
                    user.session.user, device_id, name
                )
            except NameTaken:  # another tab was faster
                error = "device_name_taken"
    if error:
        return await user.page("device_rename.html", 422, device=device, name=name, error=error)
    return await user.visit.go("/", notice="device_renamed")


@router.get("/{device_id}/remove")
async def show_remove(user: SignedIn, device_id: str) -> Response:
    """Ask for a code of any device before this one goes."""
    return await _remove_page(user, device_id)


@router.post("/{device_id}/remove")
async def remove(user: SignedIn, device_id: str) -> Response:
    """Remove the device; one that counts takes a code, of a device or for recovery."""
    visit, device = user.visit, user.device(device_id)
    if device.confirmed_at is not None:
        await visit.limit_tries()
        if not await code_proven(visit, user.session, visit.field("code")):
            await visit.reject_delay()
            return await _remove_page(user, device_id, 422, error="code_refused")
    await visit.limit_changes(user.session.user)
    with visit.acting():
        await visit.services.enrolments.remove_device(user.session.user, device.name)
    left = [one for one in user.record.devices if one.confirmed_at and one is not device]
    proved_at = visit.now if left else None
    if device.confirmed_at is not None:
        await visit.begin(replace(user.session, proved_at=proved_at))
    return await visit.go("/", notice="device_removed")


async def _remove_page(user: UserVisit, device_id: str, status: int = 200, **more: str) -> Response:
    device = user.device(device_id)
    confirmed = [one for one in user.record.devices if one.confirmed_at]
    return await user.page(
        "device_remove.html", status, device=device, last=confirmed == [device], **more
    )


async def _confirm_page(
    user: UserVisit, device: Device, status: int = 200, error: str = ""
) -> Response:
    shown = new_device.shown(user.visit, device, user.record.name)
    return await user.page("device_confirm.html", status, device=device, error=error, **shown)


async def _pending(user: UserVisit) -> Device:
    """Return the device that this session is about to set up; Go where there is none."""
    device = await new_device.pending(user.visit, user.session)
    if device is None:
        raise Go("/devices/new" if user.period_over else "/")
    return device


async def _make_room(user: UserVisit) -> None:
    """Remove what this session began to set up before, and of the rest what waits for longest."""
    mine = new_device.pending_id(user.session)
    waiting = [one for one in user.record.devices if one.confirmed_at is None]
    others = [one for one in waiting if one.device_id != mine]
    ending = [one for one in waiting if one.device_id == mine]
    ending += others[: max(0, len(others) - MAX_WAITING + 1)]
    for device in ending:
        with suppress(DeviceGone):
            await user.visit.services.enrolments.remove_device(user.session.user, device.name)


def _fresh(user: UserVisit) -> None:
    """Let nobody who found an open browser add a device of theirs."""
    if not user.fresh:
        raise Go("/prove?next=/devices/new")


def _name_error(user: UserVisit, name: str, but: str = "") -> str:
    if not name.isprintable() or not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        return "device_name"
    others = [one for one in user.record.devices if one.confirmed_at and one.device_id != but]
    return "device_name_taken" if any(one.name == name for one in others) else ""
