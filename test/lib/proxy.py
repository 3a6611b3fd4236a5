"""A TCP proxy that does harm on demand; stands before a real server or a scripted one.

    with Proxy("127.0.0.1", 9042) as p:
        ... connect to 127.0.0.1:p.port ...
        p.set(latency_ms=50, jitter_ms=20)   # from now on, also for connections that are open
        p.set(reset_after=5000, times=1)     # one RST, after so many bytes from the server; then calm
        p.clear(); p.drop(); p.down(); p.up()

A fault holds for all connections until the next set() or clear(). What random faults do follows from their seed and
the order of connections. One thread a proxy; set() and the like return when they are in force. Storm changes the faults
of several proxies by a seed.
"""
import collections
import dataclasses
import random
import selectors
import socket
import struct
import threading
import time

from port import Port

CHUNK = 256 << 10
QUEUE_MAX = 4 << 20  # bytes that wait, a direction; then nothing is read


@dataclasses.dataclass(frozen=True)
class Fault:
    latency_ms: float = 0  # each way
    jitter_ms: float = 0  # up to so much more, at random; the order of bytes stays
    bytes_per_s: float = 0  # of all connections together, each way; 0: as fast as it goes
    reset_after: int = None  # RST to both after so many bytes, counted from set() or the connection's begin
    reset_mean: int = None  # the same at a random count, so many in the mean
    cut_after: int = None  # an orderly end (FIN) to both, after so many bytes
    swallow: bool = False  # bytes are taken and never come out: half-open
    freeze: bool = False  # nothing is taken or given; goes on after clear()
    refuse: bool = False  # new connections are refused
    way: str = "down"  # where bytes are counted, swallowed, frozen: "up" to the server, "down" from it, "both"
    times: int = None  # so many resets or cuts, then calm; None: no end
    seed: int = 0

    def __str__(self):
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default)


CALM = Fault()


class Lane:
    """One direction of a connection."""

    def __init__(self, link, way, source, target):
        self.link, self.way, self.source, self.target = link, way, source, target
        self.queue, self.queued = collections.deque(), 0  # (due, bytes)
        self.eof = self.finished = False
        self.left = None  # bytes until the fault's end of the connection
        self.blocked = False

    def due(self):
        return self.queue[0][0] if self.queue else None


class Link:
    """One connection: a client's socket, the server's, two lanes."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.up, self.down = Lane(self, "up", client, server), Lane(self, "down", server, client)
        self.open = True


class Proxy:
    def __init__(self, host, port, listen="127.0.0.1", listen_port=0):
        self.target, self.host = (host, int(port)), listen
        self.accepted = self.resets = self.cuts = 0
        self.bytes = {"up": 0, "down": 0}
        self._fault, self._times, self._random = CALM, None, random.Random(0)
        self._free = {"up": 0.0, "down": 0.0}  # when the next byte of a limited line may go
        self._links, self._timed, self._orders = set(), set(), collections.deque()
        self._selector = selectors.DefaultSelector()
        self._masks = {}
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._listener = None
        self._kept = Port(listen, listen_port)
        self.port = self._kept.number
        self._listen()
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"proxy {self.port}")
        self._thread.start()

    # --- for tests -----------------------------------------------------------------------------------

    def set(self, **fault):
        """Another fault, in place of the one before; see Fault."""
        self.use(Fault(**fault))

    def use(self, fault):
        self._order(lambda: self._change(fault))

    def clear(self):
        self.use(CALM)

    def drop(self):
        """RST on every open connection."""
        self._order(lambda: [self._end(link, reset=True) for link in list(self._links)])

    def down(self):
        """As if the server's machine had been switched off and its address taken over: refused, and all reset."""
        self.use(Fault(refuse=True))
        self.drop()

    def up(self):
        self.clear()

    @property
    def fault(self):
        return self._fault

    @property
    def open_links(self):
        return len(self._links)

    def stop(self):
        if not self._thread.is_alive():
            return
        self._order(self._stop)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.stop()

    # --- the loop; all below runs in its thread, but _order ------------------------------------------

    def _order(self, call):
        done = threading.Event()
        self._orders.append((call, done))
        self._waker.send(b"x")
        if not done.wait(10):
            raise TimeoutError("the proxy does not answer")

    def _listen(self):
        self._listener = self._kept.listen(128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)

    def _unlisten(self):
        self._selector.unregister(self._listener)
        self._listener.close()
        self._listener = None

    def _change(self, fault):
        self._fault, self._times, self._random = fault, fault.times, random.Random(fault.seed)
        self._free = {"up": 0.0, "down": 0.0}
        if fault.refuse and self._listener:
            self._unlisten()
        elif not fault.refuse and not self._listener:
            self._listen()
        for link in list(self._links):
            for lane in (link.up, link.down):
                lane.queue = collections.deque((0.0, data) for _, data in lane.queue)
                self._aim(lane)
                self._write(lane)
                self._settle(link)

    def _stop(self):
        self._running = False
        for link in list(self._links):
            self._end(link, reset=False)
        if self._listener:
            self._unlisten()

    def _run(self):
        while self._running:
            due = [lane.due() for lane in self._timed]
            wait = max(0.0, min(due) - time.monotonic()) if due else None
            for key, mask in self._selector.select(wait):
                self._event(key.fileobj, key.data, mask)
            now = time.monotonic()
            for lane in [lane for lane in self._timed if lane.due() <= now]:
                if lane in self._timed:
                    self._write(lane)
                    self._settle(lane.link)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _event(self, fileobj, link, mask):
        if fileobj is self._wake:
            self._wake.recv(4096)
            while self._orders:
                call, done = self._orders.popleft()
                call()
                done.set()
        elif fileobj is self._listener:
            self._accept()
        elif link and link.open:
            out, back = (link.up, link.down) if fileobj is link.client else (link.down, link.up)
            if mask & selectors.EVENT_READ:
                self._read(out)
            if mask & selectors.EVENT_WRITE and link.open:
                self._write(back)
            self._settle(link)

    def _accept(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.accepted += 1
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            self._reset(client)
            return
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client, server)
        self._links.add(link)
        self._aim(link.up)
        self._aim(link.down)
        self._settle(link)

    def _acts(self, lane):
        return self._fault.way in (lane.way, "both")

    def _aim(self, lane):
        """Where in the coming bytes this lane's connection ends."""
        fault = self._fault
        lane.left = None
        if self._acts(lane):
            lane.left = fault.reset_after if fault.reset_after is not None else fault.cut_after
            if fault.reset_mean is not None:
                lane.left = int(self._random.expovariate(1 / fault.reset_mean))

    def _read(self, lane):
        fault, size = self._fault, CHUNK
        if fault.bytes_per_s:
            size = max(1, min(CHUNK, int(fault.bytes_per_s / 20)))
        try:
            data = lane.source.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self._end(lane.link, reset=True)
            return
        if not data:
            lane.eof = True
            return
        if fault.swallow and self._acts(lane):
            return
        self.bytes[lane.way] += len(data)
        now = time.monotonic()
        due = now + (fault.latency_ms + fault.jitter_ms * (self._random.random() if fault.jitter_ms else 0)) / 1000
        if fault.bytes_per_s:
            self._free[lane.way] = max(now, self._free[lane.way]) + len(data) / fault.bytes_per_s
            due = max(due, self._free[lane.way])
        if lane.queue:
            due = max(due, lane.queue[-1][0])
        lane.queue.append((due, data))
        lane.queued += len(data)
        self._write(lane)

    def _frozen(self, lane):
        return self._fault.freeze and self._acts(lane)

    def _write(self, lane):
        """Gives what is due."""
        now = time.monotonic()
        lane.blocked = False
        while lane.queue and lane.queue[0][0] <= now and not self._frozen(lane) and lane.link.open:
            due, data = lane.queue.popleft()
            last = lane.left is not None and len(data) >= lane.left
            if last:
                data = data[:lane.left]
            try:
                sent = lane.target.send(data) if data else 0
            except BlockingIOError:
                sent = 0
            except OSError:
                self._end(lane.link, reset=True)
                return
            lane.queued -= sent
            if lane.left is not None:
                lane.left -= sent
            if sent < len(data):
                lane.queue.appendleft((due, data[sent:]))
                lane.blocked = True
                return
            if last:
                self._harm(lane.link)
                return

    def _harm(self, link):
        reset = self._fault.cut_after is None
        if reset:
            self.resets += 1
        else:
            self.cuts += 1
        self._end(link, reset)
        if self._times is not None:
            self._times -= 1
            if self._times == 0:
                self._change(CALM)

    def _settle(self, link):
        """After each step: passes an end on, and waits for the right events."""
        if not link.open:
            return
        for lane in (link.up, link.down):
            if lane.eof and not lane.queue and not lane.finished and not self._frozen(lane):
                lane.finished = True
                try:
                    lane.target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            if lane.queue and not lane.blocked and not self._frozen(lane):
                self._timed.add(lane)
            else:
                self._timed.discard(lane)
        if link.up.finished and link.down.finished:
            self._end(link, reset=False)
            return
        for sock, out, back in ((link.client, link.up, link.down), (link.server, link.down, link.up)):
            mask = 0
            if not out.eof and out.queued < QUEUE_MAX and not self._frozen(out):
                mask |= selectors.EVENT_READ
            if back.blocked and not self._frozen(back):
                mask |= selectors.EVENT_WRITE
            before = self._masks.get(sock, 0)
            if mask == before:
                continue
            if not before:
                self._selector.register(sock, mask, link)
            elif not mask:
                self._selector.unregister(sock)
            else:
                self._selector.modify(sock, mask, link)
            self._masks[sock] = mask

    @staticmethod
    def _reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _end(self, link, reset):
        if not link.open:
            return
        link.open = False
        self._links.discard(link)
        self._timed -= {link.up, link.down}
        for sock in (link.client, link.server):
            if self._masks.pop(sock, 0):
                self._selector.unregister(sock)
            if reset:
                self._reset(sock)
            else:
                # Bytes that nobody read would turn the FIN into an RST.
                try:
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(CHUNK):
                        pass
                except OSError:
                    pass
                sock.close()


KINDS = {  # name: what it makes of a random.Random
    "latency": lambda r: Fault(latency_ms=r.uniform(5, 80), jitter_ms=r.uniform(0, 80), seed=r.getrandbits(32)),
    "slow": lambda r: Fault(bytes_per_s=r.choice([50e3, 200e3, 1e6]), way="both"),
    "reset": lambda r: Fault(reset_mean=r.choice([2000, 50000, 500000]), way=r.choice(["up", "down"]), seed=r.getrandbits(32)),
    "cut": lambda r: Fault(cut_after=r.randrange(1, 200000), way="down"),
    "half-open": lambda r: Fault(swallow=True, way=r.choice(["up", "down", "both"])),
    "freeze": lambda r: Fault(freeze=True, way=r.choice(["up", "down", "both"])),
    "refuse": lambda r: Fault(refuse=True),
    "drop": lambda r: None,
}


class Storm:
    """Faults and calms in turn on each proxy, by one seed; .log says what was done. Ends calm.

    calm_s, fault_s: (least, most) seconds. base: what "calm" is; its speed and latency hold in the faults, too, unless they
    have their own. half-open connections stay so after the fault's end (bytes are gone), and are
    reset with it, as a firewall does that comes back without memory.
    """

    def __init__(self, proxies, seed, kinds=tuple(KINDS), calm_s=(0.3, 1.5), fault_s=(0.1, 1.0), base=CALM):
        self.base = base
        self.proxies, self.kinds, self.calm_s, self.fault_s = list(proxies), list(kinds), calm_s, fault_s
        self.seed, self.log, self._over = seed, [], threading.Event()
        self._threads = [threading.Thread(target=self._blow, args=(i, p), daemon=True) for i, p in enumerate(self.proxies)]

    def _blow(self, number, proxy):
        r, begin = random.Random(f"{self.seed}/{number}"), time.monotonic()
        while not self._over.wait(r.uniform(*self.calm_s)):
            kind = r.choice(self.kinds)
            fault, seconds = KINDS[kind](r), r.uniform(*self.fault_s)
            self.log.append(f"{time.monotonic() - begin:.2f} s, proxy {number}, {seconds:.2f} s: {kind} {fault or ''}")
            if fault is None:
                proxy.drop()
                continue
            proxy.use(dataclasses.replace(fault, bytes_per_s=fault.bytes_per_s or self.base.bytes_per_s,
                                          latency_ms=fault.latency_ms or self.base.latency_ms))
            self._over.wait(seconds)
            proxy.use(self.base)
            if fault.swallow:
                proxy.drop()

    def __enter__(self):
        for p in self.proxies:
            p.use(self.base)
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *problem):
        self._over.set()
        for t in self._threads:
            t.join()
        for p in self.proxies:
            p.clear()
        if problem[0]:
            print(f"storm of seed {self.seed}:", *self.log, sep="\n  ")
