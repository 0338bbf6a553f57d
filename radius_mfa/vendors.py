"""What each vendor's gateways need: the defaults of a ``[[client]]``, and where they read groups.

Data alone: ``docs/vendors/`` says for each where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

AUTO = "auto"
"""As ``group_attribute`` of a client: the vendor's own."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A kind of gateway.

    *defaults* are settings of a ``[[client]]``, which a setting that is written there wins over.
    *group_attribute* is what ``auto`` stands for, empty where these gateways read no groups, and
    *group_value* how a group is written in it.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    group_attribute: str = ""
    group_value: str = "{group}"


# They never send it: requests that a proxy has passed on are told by their Proxy-State.
_UNSIGNED = {"require_message_authenticator": False, "limit_proxy_state": True}

# They have one field, and take the question for the code for a reject.
_ONE_FIELD = {"prompt": "append"}

VENDORS: Mapping[str, Vendor] = MappingProxyType(
    {
        "cisco-asa": Vendor(group_attribute="ASA-Group-Policy"),
        "fortigate": Vendor(
            {"password_charsets": ["utf-8", "latin-1"]}, group_attribute="Fortinet-Group-Name"
        ),
        "palo-alto": Vendor(group_attribute="PaloAlto-User-Group"),
        "juniper": Vendor(group_attribute="Juniper-Local-Group-Name"),
        "mikrotik": Vendor(_ONE_FIELD, group_attribute="Mikrotik-Group"),
        "pfsense": Vendor(_ONE_FIELD, group_attribute="Class", group_value="{groups:;}"),
        "checkpoint": Vendor(group_attribute="Class"),
        "sonicwall": Vendor(group_attribute="SonicWall-User-Group"),
        "citrix-adc": Vendor(
            group_attribute="Citrix-User-Groups", group_value="CTXSUserGroups={groups:;}"
        ),
        "f5": Vendor(group_attribute="Class", group_value="|{groups:|}|"),
        "ocserv": Vendor(_UNSIGNED, group_attribute="Class", group_value="OU={groups:;}"),
        "openvpn": Vendor({**_UNSIGNED, **_ONE_FIELD, "static_challenge": True}),
        "strongswan": Vendor(_ONE_FIELD, group_attribute="Class"),
        # It asks the next server anew, and sends no Acct-Session-Id
        "pam-radius": Vendor({**_UNSIGNED, "failover_grace_seconds": 10}),
    }
)


def vendor_defaults(name: object) -> Mapping[str, Any]:
    """Return the defaults of *name*; none for what is no vendor's name."""
    return VENDORS[name].defaults if isinstance(name, str) and name in VENDORS else {}


def never_signs(name: str) -> bool:
    """Return whether gateways of vendor *name* can't send Message-Authenticator."""
    return vendor_defaults(name).get("require_message_authenticator") is False


def vendor_name(name: str) -> str:
    """Return *name*, of a vendor or empty; ValueError with the nearest one for another."""
    if name in ("", *VENDORS):
        return name
    near = get_close_matches(name.casefold(), VENDORS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(VENDORS)}"
    raise ValueError(f"{name!r} is not a vendor with a recipe; {hint}")
