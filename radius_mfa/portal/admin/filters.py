"""What a list of users shows: filters and order, as they stand in an address and in a form."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from radius_mfa.policy.columns import Asked, Standing, Totp
from radius_mfa.portal.admin.desk import AdminVisit
from radius_mfa.stores.user_list import Order, UserFilter

E = TypeVar("E", bound=StrEnum)

MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """Filters and order; whatever an address says that is none of them is left out."""

    q: str = ""
    totp: Totp | None = None
    asked: Asked | None = None
    state: Standing | None = None
    directory: str = ""
    order: Order = Order.NAME
    descending: bool = False

    @classmethod
    def of_address(cls, desk: AdminVisit) -> "Listing":
        """Return what the address of the page asks for."""
        return cls._of(desk.visit.request.query_params)

    @classmethod
    def of_form(cls, form: Mapping[str, list[str]]) -> "Listing":
        """Return what the hidden fields of a form carry on."""
        return cls._of({name: values[0] for name, values in form.items()})

    @classmethod
    def _of(cls, given: Mapping[str, str]) -> "Listing":
        sort = given.get("sort", "")
        return cls(
            given.get("q", "").strip()[:MAX_TEXT],
            _one_of(Totp, given.get("totp", "")),
            _one_of(Asked, given.get("asked", "")),
            _one_of(Standing, given.get("state", "")),
            given.get("directory", "")[:MAX_TEXT],
            _one_of(Order, sort.removeprefix("-")) or Order.NAME,
            sort.startswith("-"),
        )

    @property
    def fields(self) -> dict[str, str]:
        """What tells this listing from the whole list, by the names of address and form."""
        sort = ("-" if self.descending else "") + self.order
        fields = {
            "q": self.q,
            "totp": self.totp or "",
            "asked": self.asked or "",
            "state": self.state or "",
            "directory": self.directory,
            "sort": "" if sort == Order.NAME else sort,
        }
        return {name: value for name, value in fields.items() if value}

    @property
    def filtered(self) -> bool:
        """Whether anything but the order is asked for."""
        return bool(self.fields.keys() - {"sort"})

    def address(self, path: str, **more: str) -> str:
        """Return the address of *path* with this listing, and with *more*."""
        asked = urlencode(self.fields | {name: value for name, value in more.items() if value})
        return f"{path}?{asked}" if asked else path

    def sorted_by(self, order: str) -> "Listing":
        """Return the listing in another order, or in this one the other way round."""
        wanted = Order(order)
        turned = wanted is self.order and not self.descending
        return replace(self, order=wanted, descending=turned)

    async def wanted(self, desk: AdminVisit) -> UserFilter:
        """Return it as the database is asked; who is locked, Redis knows."""
        among, others, suspended = None, False, None
        if self.state is Standing.SUSPENDED:
            suspended = True
        elif self.state is not None:
            locked, now_ms = await desk.office.attempts.locked(desk.now), int(desk.now * 1000)
            everywhere = {key for key, locks in locked.items() if locks.everywhere(now_ms)}
            chosen = {
                Standing.LOCKED: everywhere,
                Standing.PARTLY_LOCKED: locked.keys() - everywhere,
                Standing.ACTIVE: locked.keys(),
            }[self.state]
            among, others, suspended = sorted(chosen), self.state is Standing.ACTIVE, False
        return UserFilter(
            self.q, self.totp, self.asked, suspended, self.directory, among, others=others
        )


def _one_of(kind: type[E], word: str) -> E | None:
    return kind(word) if word in set(kind) else None
