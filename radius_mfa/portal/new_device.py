"""A device that is being set up: its seed, what its page shows, its first code.

The same for users and for admins; the seed is shown to the session that began it, and until its
first code came.
"""

from dataclasses import replace
from typing import Any

from radius_mfa.policy.totp import Device, base32, in_groups, newest_match, otpauth_uri
from radius_mfa.portal.pages import qr_code
from radius_mfa.portal.visit import Visit
from radius_mfa.stores.enrolments import NewDevice
from radius_mfa.stores.sessions import Session

_PENDING = "pending"


async def begin(visit: Visit, session: Session, name: str) -> None:
    """Make a seed for the device *name* of the session's user; raises Refused for a name taken."""
    policy = visit.policy
    fresh = NewDevice(
        name,
        algorithm=policy.algorithm,
        digits=policy.digits,
        time_step_seconds=policy.time_step_seconds,
    )
    device = await visit.services.enrolments.add_device(session.user, fresh)
    await visit.keep(replace(session, data={**session.data, _PENDING: device.device_id}))


def pending_id(session: Session) -> str:
    """Return the id of what this session is about to set up, empty for nothing."""
    return str(session.data.get(_PENDING, ""))


async def pending(visit: Visit, session: Session) -> Device | None:
    """Return what this session is about to set up, None for nothing."""
    return await visit.services.enrolments.pending_device(session.user, pending_id(session))


def shown(visit: Visit, device: Device, account: str) -> dict[str, Any]:
    """Return what ``first_code.html`` shows of *device*."""
    uri = otpauth_uri(device, account, visit.policy.issuer)
    return {"qr_code": qr_code(uri), "uri": uri, "key": in_groups(base32(device.seed))}


def first_step(visit: Visit, device: Device) -> int | None:
    """Return the time step of the code that was typed, None where it is none of *device*."""
    return newest_match(device, visit.field("code"), visit.now, visit.policy.window)


async def finish(visit: Visit, session: Session) -> None:
    """Let the session go on under a new token, as one that has proven a second factor."""
    data = {name: value for name, value in session.data.items() if name != _PENDING}
    await visit.begin(replace(session, proved_at=visit.now, data=data))
