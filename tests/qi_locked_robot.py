"""A robot of NAOqi 2.9 that lets nobody in, for tests: TLS, and one answer to every login.

Owns: as much of the qi protocol as a refusal takes.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HEADER = struct.Struct("<4sIIHBBIII")
"""Of a qi message: magic, id, size, version, type, flags, service, object, function."""


class LockedRobot(threading.Thread):
    """A robot of NAOqi 2.9 that lets nobody in: TLS, and one answer to every login."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate(folder))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcps://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked: list[bytes] = []
        self.start()

    def run(self) -> None:
        while True:
            plain, _ = self._socket.accept()
            with self._context.wrap_socket(plain, server_side=True) as caller:
                stream = caller.makefile("rb")
                magic, number, size, version, *_, function = HEADER.unpack(stream.read(HEADER.size))
                self.asked.append(stream.read(size))
                reason = b"\1\0\0\0s\x15\0\0\0Authentication failed"
                refused = HEADER.pack(magic, number, len(reason), version, 3, 0, 0, 0, function)
                caller.sendall(refused + reason)


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "robot")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "robot.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file
