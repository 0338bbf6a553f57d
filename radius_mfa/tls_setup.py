"""The TLS that this server offers, to browsers and to gateways, from the files of the settings."""

import ssl
from pathlib import Path

from radius_mfa.config import RadsecSettings
from radius_mfa.errors import ConfigurationError


def server_context(section: str, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS of a server with the *certificate* and its *key*, which are of *section*.

    Raises ConfigurationError for files that can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the certificate of [{section}] can't be used: {_cause(error)}",
            f"is {section}.certificate_file a chain in PEM, "
            "and certificate_key_file its private key, without a passphrase?",
        ) from None
    return context


def radsec_context(radsec: RadsecSettings) -> ssl.SSLContext:
    """Return TLS that asks every client for a certificate (RFC 6614 section 2.3).

    *radsec* has its three files. Raises ConfigurationError for files that can't be used.
    """
    files = radsec.certificate_file, radsec.certificate_key_file, radsec.client_ca_file
    certificate, key, ca = map(Path, filter(None, files))
    context = server_context("radsec", certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # no resumption: every connection shows its certificate
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"radsec.client_ca_file can't be used: {_cause(error)}",
            "name a file of certificates in PEM",
        ) from None
    return context


def _no_passphrase() -> str:
    """Answer for OpenSSL, which would ask the terminal of whoever started the server."""
    return ""


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return getattr(error, "strerror", None) or type(error).__name__
