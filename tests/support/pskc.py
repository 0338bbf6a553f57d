"""PSKC containers (RFC 6030): two examples of the RFC, and others written from their parts."""

import base64
import hmac
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PSKC = "urn:ietf:params:xml:ns:keyprov:pskc"
AES_128_CBC = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
HMAC_SHA1 = "http://www.w3.org/2000/09/xmldsig#hmac-sha1"
PBKDF2 = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2"
NAMESPACES = (
    f'xmlns="{PSKC}" xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    ' xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"'
    ' xmlns:xenc11="http://www.w3.org/2009/xmlenc11#"'
    ' xmlns:pkcs5="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#"'
)

RFC_KEY = "12345678901234567890123456789012"
RFC_PASSPHRASE = "qwerty"
RFC_SEED = b"12345678901234567890"

PRE_SHARED = "<ds:KeyName>Pre-shared-key</ds:KeyName>"
RFC_DERIVED = f"""<xenc11:DerivedKey>
  <xenc11:KeyDerivationMethod Algorithm="{PBKDF2}"><pkcs5:PBKDF2-params>
    <Salt><Specified>Ej7/PEpyEpw=</Specified></Salt>
    <IterationCount>1000</IterationCount><KeyLength>16</KeyLength><PRF/>
  </pkcs5:PBKDF2-params></xenc11:KeyDerivationMethod>
  <xenc11:MasterKeyName>My Password 1</xenc11:MasterKeyName></xenc11:DerivedKey>"""


def encrypted_value(cipher_value: str, algorithm: str = AES_128_CBC) -> str:
    return (
        f'<xenc:EncryptionMethod Algorithm="{algorithm}"/><xenc:CipherData>'
        f"<xenc:CipherValue>\n  {cipher_value}\n </xenc:CipherValue></xenc:CipherData>"
    )


def secret(cipher_value: str, mac: str, algorithm: str = AES_128_CBC) -> str:
    told = f"<ValueMAC>{mac}\n </ValueMAC>" if mac else ""
    return f"<EncryptedValue>{encrypted_value(cipher_value, algorithm)}</EncryptedValue>{told}"


def key(secret_xml: str, kind: str = "totp", **more: str) -> str:
    """Return a KeyPackage; *more* are pieces of XML by where they go, or texts."""
    suite = f"<Suite>{more['suite']}</Suite>" if "suite" in more else ""
    user = f"<UserId>{more['user']}</UserId>" if "user" in more else ""
    return f"""<KeyPackage><DeviceInfo><Manufacturer>M</Manufacturer>
      <SerialNo>{more.get("serial", "987654321")}</SerialNo></DeviceInfo>
     <Key Id="12345678" Algorithm="{PSKC}:{kind}"><Issuer>I</Issuer>
      <AlgorithmParameters>{suite}
       <ResponseFormat Length="{more.get("digits", "8")}" Encoding="DECIMAL"/>
      </AlgorithmParameters>
      <Data><Secret>{secret_xml}</Secret>
       <TimeInterval><PlainValue>{more.get("step", "30")}</PlainValue></TimeInterval></Data>
      {user}{more.get("policy", "")}</Key></KeyPackage>"""


def container(*packages: str, encryption: str = "", mac: str = "") -> bytes:
    parts = [f"<EncryptionKey>{encryption}</EncryptionKey>" if encryption else "", mac, *packages]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<KeyContainer Version="1.0" {NAMESPACES}>'
        f"{''.join(parts)}</KeyContainer>"
    ).encode()


def mac_method(cipher_value: str, algorithm: str = HMAC_SHA1) -> str:
    wrapped = f"<MACKey>{encrypted_value(cipher_value)}</MACKey>" if cipher_value else ""
    return f'<MACMethod Algorithm="{algorithm}">{wrapped}</MACMethod>'


def figure_6(kind: str = "hotp") -> bytes:
    """RFC 6030 figure 6: AES-128-CBC under a pre-shared key."""
    value = "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv"
    return container(
        key(secret(value, "Su+NvtQfmvfJzF6bmQiJqoLRExc="), kind),
        encryption=PRE_SHARED,
        mac=mac_method("ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX"),
    )


def figure_7(kind: str = "hotp") -> bytes:
    """RFC 6030 figure 7: the same under a key derived from a passphrase."""
    value = "oTvo+S22nsmS2Z/RtcoF8Hfh+jzMe0RkiafpoDpnoZTjPYZu6V+A4aEn032yCr4f"
    return container(
        key(secret(value, "LP6xMvjtypbfT9PdkJhBZ+D6O4w="), kind),
        encryption=RFC_DERIVED,
        mac=mac_method("2GTTnLwM3I4e5IO5FkufoOEiOhNj91fhKRQBtBJYluUDsPOLTfUvoU2dStyOwYZx"),
    )


def sealed(plain: bytes, with_key: bytes, iv: bytes = bytes(16)) -> bytes:
    """Return *plain* in AES-CBC with the padding of XML Encryption, IV in front."""
    count = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(with_key), modes.CBC(iv)).encryptor()
    padded = plain + bytes(count - 1) + bytes([count])
    return iv + encryptor.update(padded) + encryptor.finalize()


def encrypted(seeds: dict[str, bytes], with_key: bytes, digest: str = "sha1", **more: Any) -> bytes:
    """Return a container of TOTP keys by serial number, encrypted and with MACs."""
    mac_key = bytes(range(20))
    bits = len(with_key) * 8
    algorithm = f"http://www.w3.org/2001/04/xmlenc#aes{bits}-cbc"
    packages = []
    for serial, seed in seeds.items():
        value = sealed(seed, with_key)
        told = base64.b64encode(hmac.digest(mac_key, value, digest)).decode()
        text = base64.b64encode(value).decode()
        packages.append(key(secret(text, told, algorithm), serial=serial, digits="6", **more))
    wrapped = base64.b64encode(sealed(mac_key, with_key)).decode()
    method = mac_method(wrapped, f"http://www.w3.org/2001/04/xmldsig-more#hmac-{digest}")
    return container(*packages, encryption=PRE_SHARED, mac=method.replace(AES_128_CBC, algorithm))
