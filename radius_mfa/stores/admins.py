"""Who may use the admin portal, and as what: a row beside the user's own (ADR 0016).

Changes go through ``EnrolmentStore.change``, as all changes of a user do: into the audit trail,
and out of every cache.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from radius_mfa.errors import Refused
from radius_mfa.policy.roles import RIGHTS, Right, Role
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.interfaces import LOCAL
from radius_mfa.stores.records import AdminRecord, LocalUser, MfaUser, utc_now


@dataclass(frozen=True, slots=True)
class Admin:
    """A user with a role. *user* is the key, *name* what people call them.

    *one_time_until* is set while the password is one that ``admin create`` made: it opens nothing
    but the page where another one is chosen, and after that moment not even this.
    """

    user: str
    name: str
    directory: str
    role: Role
    created_at: datetime
    one_time_until: datetime | None = None

    def may(self, right: Right) -> bool:
        """Return whether the role includes *right*."""
        return right in RIGHTS[self.role]


class AdminStore:
    """Roles on record."""

    def __init__(self, enrolments: EnrolmentStore) -> None:
        self._enrolments = enrolments

    async def find(self, user: str) -> Admin | None:
        """Return the admin with the key *user*, or None."""
        found = await self._found(user)
        return found[0] if found else None

    async def all(self) -> list[Admin]:
        """Return every admin, by name."""
        return sorted(await self._found(), key=lambda admin: admin.name)

    async def _found(self, user: str | None = None) -> list[Admin]:
        query = select(AdminRecord, MfaUser).join(MfaUser, MfaUser.name == AdminRecord.user)
        if user is not None:
            query = query.where(AdminRecord.user == user)
        async with self._enrolments.database.session() as session:
            return [_admin(*row) for row in await session.execute(query)]

    async def appoint(self, user: str, role: Role, one_time_until: datetime | None = None) -> None:
        """Give a user on record a role; Refused where they have one."""
        async with self._enrolments.change(user, "admin.create", role=role) as session:
            known = await session.get(AdminRecord, user)
            if known is not None:
                raise Refused(
                    f"that user is {known.role} already", "to change it: radius-mfa admin role"
                )
            session.add(
                AdminRecord(
                    user=user, role=role, created_at=utc_now(), one_time_until=one_time_until
                )
            )

    async def set_role(self, user: str, role: Role) -> None:
        """Give an admin another role; Refused for somebody who has none."""
        async with self._enrolments.change(user, "admin.role", role=role) as session:
            record = await session.get(AdminRecord, user)
            if record is None:
                raise NoAdmin
            record.role = role

    async def remove(self, user: str) -> None:
        """Take the role away; the user stays. Refused for somebody who has none."""
        async with self._enrolments.change(user, "admin.remove") as session:
            record = await session.get(AdminRecord, user)
            if record is None:
                raise NoAdmin
            await session.delete(record)

    async def renew_password(self, user: str, password_hash: str, until: datetime) -> None:
        """Put another one-time password in place of one that was not used, or is over."""
        await self._put_password(user, password_hash, "admin.password", until)

    async def choose_password(self, user: str, password_hash: str) -> None:
        """Put an admin's own password in place of the one that was made for them."""
        await self._put_password(user, password_hash, "user.password", None)

    async def _put_password(
        self, user: str, password_hash: str, act: str, until: datetime | None
    ) -> None:
        async with self._enrolments.change(user, act) as session:
            record, local = await session.get(AdminRecord, user), await session.get(LocalUser, user)
            if record is None or local is None or record.one_time_until is None:
                raise Refused("the password was chosen meanwhile", "sign in with it")
            local.password_hash, local.password_changed_at = password_hash, utc_now()
            record.one_time_until = until


class NoAdmin(Refused):
    """The command is about somebody who has no role."""

    def __init__(self) -> None:
        super().__init__("that user has no role", "see: radius-mfa admin list")


def _admin(record: AdminRecord, user: MfaUser) -> Admin:
    return Admin(
        record.user,
        user.user_name or user.name,
        user.directory or LOCAL,
        Role(record.role),
        record.created_at,
        record.one_time_until,
    )
