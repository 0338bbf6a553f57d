"""Clients that must sign by an admin's word, on real databases."""

import asyncio

import pytest

from radius_mfa.errors import Refused
from radius_mfa.stores import audit
from radius_mfa.stores.records import Database
from radius_mfa.stores.signed_clients import SignedClients


async def test_of_two_admins_at_once_one_is_told_that_it_is_so_already(database: Database) -> None:
    """Nothing is on the audit trail twice, and undoing it twice is refused as well."""
    store = SignedClients(database)
    done = await asyncio.gather(*[store.require("asa") for _ in range(4)], return_exceptions=True)
    assert [type(one) for one in done if one is not None] == [Refused] * 3
    assert await store.all() == {"asa"}
    await store.withdraw("asa")
    assert await store.all() == frozenset()
    with pytest.raises(Refused, match="left to the settings"):
        await store.withdraw("asa")
    acts = [(one.act, one.detail) for one in await audit.entries(database)]
    assert acts == [
        ("client.require_signature", {"client": "asa"}),
        ("client.leave_signature", {"client": "asa"}),
    ]
