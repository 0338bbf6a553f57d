"""A challenge: when one is given, and what its State says of itself.

The State holds when it ends and a keyed seal, so that a forged one is told from ours without
asking anybody. Whom it was given, and whether it was used, stands in Redis.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum


class Prompt(StrEnum):
    """Where a client's users type the code: ``prompt`` of a ``[[client]]``."""

    AUTO = "auto"
    APPEND = "append"
    CHALLENGE = "challenge"


@dataclass(frozen=True, slots=True)
class ChallengePolicy:
    """How long a State may be answered, and how many codes one right password lets be tried."""

    lifetime_seconds: int = 120
    tries: int = 3


NONCE_OCTETS = 18  # checklist C02: 128 bits at least
_EXPIRY_OCTETS = 5
_SEAL_OCTETS = 16
_STATE_OCTETS = NONCE_OCTETS + _EXPIRY_OCTETS + _SEAL_OCTETS
_STATE_CHARACTERS = _STATE_OCTETS * 4 // 3

DEFAULT_LANGUAGE = "en"

TEXTS = {
    "de": "Bitte den Code aus der Authenticator-App eingeben: ",
    "en": "Enter the code from your authenticator app: ",
    "es": "Introduzca el código de su aplicación de autenticación: ",
    "fr": "Saisissez le code de votre application d'authentification: ",
    "it": "Inserisca il codice della Sua app di autenticazione: ",
    "nl": "Voer de code uit uw authenticator-app in: ",
    "pl": "Podaj kod z aplikacji uwierzytelniającej: ",
    "pt": "Introduza o código da sua aplicação de autenticação: ",
}
"""What asks for the code, by language; ``challenge.texts`` adds to it."""


def new_state(nonce: bytes, expiry: int, key: bytes) -> str:
    """Return a State that ends at *expiry* (Unix seconds); *nonce* is random.

    Printable, as ocserv cuts a State at a NUL.
    """
    octets = nonce + expiry.to_bytes(_EXPIRY_OCTETS, "big")
    return base64.urlsafe_b64encode(octets + _seal(octets, key)).decode("ascii")


def expiry(state: bytes, key: bytes) -> int | None:
    """Return when *state* ends, in Unix seconds; None where it is none of ours."""
    if len(state) != _STATE_CHARACTERS:
        return None
    try:
        octets = base64.b64decode(state, b"-_", validate=True)
    except binascii.Error:
        return None
    told, seal = octets[:-_SEAL_OCTETS], octets[-_SEAL_OCTETS:]
    if not hmac.compare_digest(_seal(told, key), seal):
        return None
    return int.from_bytes(told[NONCE_OCTETS:], "big")


def _seal(octets: bytes, key: bytes) -> bytes:
    hasher = hashlib.blake2b(octets, key=key, person=b"radius-mfa state", digest_size=_SEAL_OCTETS)
    return hasher.digest()
