"""The admin portal: pages under ``/admin``, with sessions of their own.

A route asks for a ``Seeing``, ``Helping`` or ``Deciding`` admin (``desk``): that is what keeps the
others out. Changes are made by the services that the command line uses, inside ``acting``.
"""

from fastapi import APIRouter

from radius_mfa.portal.admin import (
    acts,
    clients,
    dashboard,
    groups,
    live,
    records,
    set_up,
    sign_in,
    user,
    users,
)

router = APIRouter()
for _module in (sign_in, set_up, dashboard, users, user, acts, groups, live, clients, records):
    router.include_router(_module.router)
