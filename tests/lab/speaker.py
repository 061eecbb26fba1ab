"""A BGP session without a mind of its own: it sends an OPEN and what it is given, and keeps what it receives."""
import socket
import time

import wire


class Speaker:
    """`messages` holds what the peer sent, in order, whole messages with their headers."""

    def __init__(self, peer, own="127.0.0.1", patience=20):
        self.messages, self.buffer, self.ended = [], b"", False
        deadline = time.monotonic() + patience
        while True:
            try:
                # A peer that closes at once was not ready yet: this is asked again.
                self.socket = socket.create_connection((peer.address, peer.port), 3, (own, 0))
                self.socket.settimeout(0.1)
                self.socket.sendall(wire.open_message())
                self.receive(until=lambda: self.has(wire.KEEPALIVE))
                if self.has(wire.KEEPALIVE):
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise OSError(f"no session with {peer.name}")
            self.messages, self.buffer, self.ended = [], b"", False
            time.sleep(0.3)

    def has(self, kind):
        return any(message[18] == kind for message in self.messages)

    def of(self, kind):
        return [message for message in self.messages if message[18] == kind]

    def receive(self, seconds=5, until=lambda: False):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.ended and not until():
            try:
                octets = self.socket.recv(65536)
                self.ended = not octets
                self.buffer += octets
            except TimeoutError:
                continue
            except OSError:
                self.ended = True
            while len(self.buffer) >= wire.HEADER and len(self.buffer) >= (length := int.from_bytes(self.buffer[16:18], "big")):
                message, self.buffer = self.buffer[:length], self.buffer[length:]
                self.messages.append(message)
                if message[18] == wire.OPEN:
                    self.send(wire.message(wire.KEEPALIVE))

    def send(self, octets):
        try:
            self.socket.sendall(octets)
        except OSError:
            self.ended = True

    def close(self):
        self.send(wire.notification(6, 2))
        self.socket.close()
