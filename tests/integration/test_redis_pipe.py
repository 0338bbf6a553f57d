"""The pipe to Redis: where it connects, how it greets, and what it does with a broken peer."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.exceptions import ConnectionError as RedisConnectionError

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.redis_pipe import RedisPipe, open_pipe
from radius_mfa.stores.redis_scripts import connect
from tests.bench.servers import free_port
from tests.support.redis import RealRedis, scripts_over

SOURCES = {"whoami": "return redis.call('INCR', KEYS[1])"}


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for *address*; return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{address}.crt", folder / f"{address}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A Redis that speaks TLS on a port of 127.0.0.1, and the certificate that proves it."""
    port = free_port()
    proof, key = certificate(tmp_path, "127.0.0.1")
    options = ("--tls-port", str(port), "--tls-cert-file", str(proof), "--tls-key-file", str(key))
    with RealRedis(*options, "--tls-auth-clients", "no"):
        yield port, proof


@pytest.mark.parametrize("other", ["another certificate", "another name", "no TLS"])
async def test_a_redis_that_can_not_prove_who_it_is_is_not_used(
    tls_redis: tuple[int, Path], tmp_path: Path, other: str
) -> None:
    port, proof = tls_redis
    stranger, _ = certificate(tmp_path, "127.0.0.2")
    url = {
        "another certificate": f"rediss://127.0.0.1:{port}?ssl_ca_certs={stranger}",
        "another name": f"rediss://localhost:{port}?ssl_ca_certs={proof}&ssl_check_hostname=true",
        "no TLS": f"redis://127.0.0.1:{port}",
    }[other]
    async with scripts_over(url, SOURCES) as scripts:
        with pytest.raises(BackendUnavailable, match="redis: "):
            await scripts.run("whoami", ["counter"])


async def test_over_tls(tls_redis: tuple[int, Path]) -> None:
    port, proof = tls_redis
    async with scripts_over(f"rediss://127.0.0.1:{port}?ssl_ca_certs={proof}", SOURCES) as scripts:
        assert await scripts.run("whoami", ["counter"]) == 1
        assert await scripts.guarded(scripts.redis.get("counter")) == b"1"


async def test_password_user_and_database_of_the_url_are_minded() -> None:
    port = free_port()
    with RealRedis("--port", str(port), "--user", "node", "on", ">right", "~*", "+@all") as redis:
        url = f"redis://node:right@127.0.0.1:{port}/3"
        async with scripts_over(url, SOURCES) as scripts:
            assert await scripts.run("whoami", ["counter"]) == 1
        with redis.client as client:
            assert client.get("counter") is None
            client.execute_command("SELECT", 3)
            assert client.get("counter") == b"1"
        async with scripts_over(url.replace("right", "wrong"), SOURCES) as scripts:
            with pytest.raises(BackendUnavailable, match="redis: AuthenticationError"):
                await scripts.run("whoami", ["counter"])


@asynccontextmanager
async def babbling(reply: bytes, folder: Path) -> AsyncIterator[RedisPipe]:
    """Open a pipe to something that answers every read with *reply*."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(reply)
        writer.close()

    path = folder / "babbler.sock"
    server = await asyncio.start_unix_server(answer, path)
    client = connect(f"unix://{path}", password=None, timeout_seconds=5)
    pipe = await open_pipe(client, [], 5)
    try:
        yield pipe
    finally:
        pipe.close(ConnectionError())
        server.close()


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+MORE\r\n"])
async def test_a_peer_that_does_not_keep_the_protocol_is_left(tmp_path: Path, reply: bytes) -> None:
    """Replies are matched by their order: one too many, and none can be believed any more."""
    async with babbling(reply, tmp_path) as pipe:
        first = pipe.call(("PING",))
        await asyncio.wait([first])
        assert pipe.ended
        with pytest.raises(RedisConnectionError):
            await pipe.call(("PING",))
