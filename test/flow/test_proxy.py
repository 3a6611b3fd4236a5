"""The fault proxy itself: what it is told to do happens, and nothing else."""
import socket
import socketserver
import threading
import time

import pytest
from flow import one_of
from port import Port
from proxy import Proxy, Storm


class Echo(socketserver.ThreadingTCPServer):
    """Gives back every byte; a line "give N" gets N bytes."""
    allow_reuse_address = daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            try:
                while data := self.request.recv(1 << 18):
                    if data.startswith(b"give "):
                        left, block = int(data[5:]), bytes(1 << 18)
                        while left:
                            left -= self.request.send(block[:left])
                    else:
                        self.request.sendall(data)
            except OSError:
                pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def proxy():
    with Echo() as echo, Proxy(*echo.server_address) as p:
        yield p
        p.stop()
        echo.shutdown()


def link(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), 60)


def nothing_comes(sock):
    sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sock.recv(10)
    sock.settimeout(60)


def take(sock, size):
    """Until so many bytes, or the end."""
    data = b""
    while len(data) < size and (part := sock.recv(min(1 << 18, size - len(data)))):
        data += part
    return data


def give(sock, size):
    sock.sendall(b"give %d\n" % size)


def until(check, seconds=60):
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.005)
    return check()


def test_bytes_pass_unchanged(proxy):
    sent = bytes(i * 7 % 251 for i in range(300000))
    with link(proxy) as a, link(proxy) as b:
        threading.Thread(target=a.sendall, args=(sent,)).start()
        b.sendall(b"hello")
        assert take(b, 5) == b"hello"
        assert take(a, len(sent)) == sent
    assert proxy.accepted == 2
    assert proxy.bytes == {"up": 300005, "down": 300005}
    assert until(lambda: proxy.open_links == 0)


def test_an_end_is_passed_on(proxy):
    with link(proxy) as a:
        a.sendall(b"last")
        a.shutdown(socket.SHUT_WR)
        assert take(a, 100) == b"last"  # and then the server's end


def ten_at_once(proxy):
    proxy.set(latency_ms=60, jitter_ms=40, seed=3)
    with link(proxy) as a:
        begin = time.monotonic()
        for i in range(10):
            a.sendall(b"%04d" % i)
        assert take(a, 40) == b"".join(b"%04d" % i for i in range(10))
        took = time.monotonic() - begin
        assert 0.12 <= took
        return None if took < 1.1 else took  # one after the other they take 1.2 s at least


def test_latency_is_each_way_and_keeps_the_order(proxy):
    one_of(5, lambda: ten_at_once(proxy))


def test_latency_ends(proxy):
    proxy.set(latency_ms=60)
    with link(proxy) as a:
        proxy.clear()

        def echo():
            begin = time.monotonic()
            a.sendall(b"x")
            assert take(a, 1) == b"x"
            took = time.monotonic() - begin
            return None if took < 0.1 else took
        one_of(50, echo)


def test_a_slow_line(proxy):
    proxy.set(bytes_per_s=200000)
    with link(proxy) as a:
        begin = time.monotonic()
        give(a, 60000)
        assert len(take(a, 60000)) == 60000
        assert 0.25 <= time.monotonic() - begin < 20


def test_what_waits_goes_at_once_when_the_fault_ends(proxy):
    proxy.set(bytes_per_s=1000)
    with link(proxy) as a:
        give(a, 20000)
        assert len(take(a, 10)) == 10
        proxy.clear()
        begin = time.monotonic()
        assert len(take(a, 19990)) == 19990
        assert time.monotonic() - begin < 10  # not the 20 s that the line would have taken


def test_a_reset_after_so_many_bytes(proxy):
    proxy.set(reset_after=1000, times=1)
    with link(proxy) as a:
        give(a, 500)
        assert len(take(a, 500)) == 500
        give(a, 5000)
        got = 0
        with pytest.raises(ConnectionResetError):
            while part := a.recv(65536):
                got += len(part)
            pytest.fail("an orderly end")
        assert got <= 500  # an RST may overtake what was not read
    assert proxy.resets == 1
    with link(proxy) as b:  # once only
        give(b, 5000)
        assert len(take(b, 5000)) == 5000


def test_a_reset_on_the_way_up(proxy):
    proxy.set(reset_after=3, way="up")
    with link(proxy) as a:
        a.sendall(b"abcdef")
        with pytest.raises(ConnectionResetError):
            while a.recv(100):
                pass
            pytest.fail("an orderly end")


def test_a_cut_in_the_middle_of_an_answer(proxy):
    proxy.set(cut_after=1234)
    with link(proxy) as a:
        give(a, 100000)
        assert len(take(a, 100000)) == 1234
    assert (proxy.cuts, proxy.resets) == (1, 0)


def counts_of_random_resets(proxy, seed):
    proxy.set(reset_mean=20000, seed=seed)
    counts = []
    for _ in range(6):
        before = proxy.bytes["down"]
        with link(proxy) as a:
            give(a, 4000000)
            with pytest.raises(ConnectionResetError):
                while a.recv(1 << 18):
                    pass
        counts.append(proxy.resets)
        assert proxy.bytes["down"] > before
    return counts


def test_random_resets(proxy):
    assert counts_of_random_resets(proxy, 1) == [1, 2, 3, 4, 5, 6]


def test_half_open(proxy):
    with link(proxy) as a:
        a.sendall(b"one")
        assert take(a, 3) == b"one"
        proxy.set(swallow=True, way="up")
        a.sendall(b"two")
        nothing_comes(a)
        with link(proxy) as b:  # accepted, and never answered
            b.sendall(b"three")
            nothing_comes(b)
        proxy.clear()
        a.sendall(b"four")
        assert take(a, 4) == b"four"  # "two" is gone


def test_freeze_and_go_on(proxy):
    with link(proxy) as a:
        proxy.set(freeze=True, way="both")
        a.sendall(b"kept")
        nothing_comes(a)
        proxy.clear()
        assert take(a, 4) == b"kept"


def test_refused_dropped_and_back(proxy):
    with link(proxy) as a:
        proxy.down()
        with pytest.raises(ConnectionResetError):
            a.recv(10)
    with pytest.raises(ConnectionRefusedError):
        link(proxy)
    proxy.up()
    with link(proxy) as b:
        b.sendall(b"x")
        assert take(b, 1) == b"x"


def test_a_server_that_is_not_there():
    with Port() as free:
        # The RST may come as early as in the connect.
        with Proxy("127.0.0.1", free.number) as p, pytest.raises(ConnectionResetError), link(p) as a:
            a.recv(1)
            pytest.fail("an orderly end")


def test_a_reader_that_is_slow_itself_stops_the_server(proxy):
    with link(proxy) as a:
        give(a, 64 << 20)
        assert not until(lambda: proxy.bytes["down"] > 32 << 20, 0.3)
        assert len(take(a, 1 << 20)) == 1 << 20


def test_a_storm_says_what_it_did_and_ends_calm(proxy):
    with Storm([proxy], seed=7, calm_s=(0, 0.01), fault_s=(0.01, 0.03)) as storm:
        until(lambda: len(storm.log) > 20)
    assert len(storm.log) > 20
    with link(proxy) as a:
        a.sendall(b"calm")
        assert take(a, 4) == b"calm"
    kinds = [line.split(": ", 1)[1] for line in storm.log]
    with Storm([proxy], seed=7, calm_s=(0, 0.01), fault_s=(0.01, 0.03)) as again:
        until(lambda: len(again.log) > 20)
    assert [line.split(": ", 1)[1] for line in again.log][:20] == kinds[:20]


@pytest.mark.long
def test_it_is_fast_enough(proxy):
    size = 512 << 20
    with link(proxy) as a:
        begin = time.monotonic()
        give(a, size)
        left, block = size, bytearray(1 << 18)
        while left and (got := a.recv_into(block)):
            left -= got
        rate = size / (time.monotonic() - begin) / 1e6
    print(f"{rate:.0f} MB/s")
    assert left == 0 and rate > 100
