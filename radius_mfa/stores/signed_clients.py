"""Clients that must sign their requests by an admin's word, beside what the settings say (ADR 19).

It only ever makes a client stricter: the settings are what counts where there is no such word.
"""

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from radius_mfa.errors import Refused
from radius_mfa.stores import audit
from radius_mfa.stores.audit import Act
from radius_mfa.stores.records import Database, SignedClientRecord, begin_writing, utc_now


class SignedClients:
    """The word of admins on record. Each method may raise BackendUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> frozenset[str]:
        """Return the names of the clients of whom Message-Authenticator is required."""
        async with self._database.session() as session:
            return frozenset(await session.scalars(select(SignedClientRecord.client)))

    async def require(self, client: str) -> None:
        """Require it of a client from now on; every node follows within seconds."""
        try:
            async with self._database.session() as session, session.begin():
                await begin_writing(session)
                session.add(SignedClientRecord(client=client, at=utc_now()))
                await session.flush()
                act = Act("client.require_signature", "", {"client": client})
                await audit.append(session, [act])
        except IntegrityError:
            raise Refused(f"it is required of {client} already") from None

    async def withdraw(self, client: str) -> None:
        """Leave it to the settings again; Refused where it is left to them already."""
        async with self._database.session() as session, session.begin():
            await begin_writing(session)
            record = await session.get(SignedClientRecord, client)
            if record is None:
                raise Refused(
                    f"it is left to the settings of {client} already",
                    "where those require it: require_message_authenticator of its [[client]]",
                )
            await session.delete(record)
            await audit.append(session, [Act("client.leave_signature", "", {"client": client})])
