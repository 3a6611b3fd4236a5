"""Scripted HTTP servers on loopback: a Sync API, and an Elasticsearch that keeps documents in memory.

    api = SyncApi()
    api.script(1, Reply(503, headers={"Retry-After": "1"}))   # the first call; later ones as usual
    api.start()   # then api.url
    ...
    api.calls     # every request: method, path, headers, body, json, conn, start, end

A script entry is a Reply, a function(request) -> Reply or None (None: the usual answer), or a list of both for
consecutive requests. One thread per connection; connections are kept alive.
"""
import json
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse

from port import Port


class Reply:
    """
    body      bytes, str, or anything that becomes JSON
    cut       announce the whole length, send so many bytes of the body, close
    endless   after the body, zeros for ever (chunked)
    delay     seconds before the answer; slow: seconds between its single bytes
    fault     "close", "reset" or "hang" in place of an answer; "close_after" closes after a right answer
    """

    def __init__(self, status=200, body=b"", headers=None, cut=None, endless=False, delay=0, slow=0, fault=None,
                 content_type="application/json", reason="Scripted"):
        self.status, self.headers, self.cut, self.endless = status, dict(headers or {}), cut, endless
        self.delay, self.slow, self.fault, self.content_type, self.reason = delay, slow, fault, content_type, reason
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body, separators=(",", ":")).encode()
        self.body = body


def html(status=200):
    return Reply(status, "<html><body><h1>Sign in</h1></body></html>", content_type="text/html")


class Request:
    def __init__(self, number, conn, method, target, headers, body):
        self.number, self.conn, self.method, self.body = number, conn, method, body
        self.headers = headers  # as sent: list of (name, value)
        self.start, self.end = time.monotonic(), None
        self.answered = None  # before the answer's last bytes go out: the client can't have had them earlier
        split = urllib.parse.urlsplit(target)
        self.path, self.query = split.path, dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        self.target, self.status = target, None

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<%d conn=%d %s %s %r>" % (self.number, self.conn, self.method, self.target, self.body[:200])


class HttpPeer:
    def __init__(self, tls=None, address="127.0.0.1"):
        self.tls, self.address, self.kept = tls, address, Port(address)
        self.port = self.kept.number
        self.calls, self.changed, self.scripts, self.always = [], threading.Condition(), {}, None
        self.conn_count, self.socks, self.listener = 0, [], None
        self.in_flight = self.most_in_flight = 0
        self.line = 0  # bytes a second that bodies come in with, each connection; 0: as fast as it goes

    # ---- script

    def script(self, number, entry):
        """What to do for call `number` (from 1); a list: for it and those that follow."""
        for i, e in enumerate(entry if isinstance(entry, list) else [entry]):
            self.scripts[number + i] = e
        return self

    def usual(self, request):
        return Reply(404, {"error": "nothing here"})

    # ---- life

    def start(self):
        self.listener = self.kept.listen()
        if self.line:  # nothing in between that takes bytes before they are due
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        return self

    def stop(self):
        """The port stays ours: refused until the next start."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        for s in list(self.socks):
            quiet_close(s)

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    @property
    def url(self):
        return "%s://%s:%d" % ("https" if self.tls else "http", self.address, self.port)

    def wait_for(self, predicate, timeout=60):
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self.calls), timeout):
                raise AssertionError("the peer did not see it within %s s: %r" % (timeout, self.calls[-5:]))

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                self.conn_count += 1
                number = self.conn_count
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock, number), daemon=True).start()

    def serve(self, sock, conn):
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self.socks.append(sock)
            stream = sock.makefile("rb")
            while self.one(sock, stream, conn):
                pass
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            if sock in self.socks:
                self.socks.remove(sock)
            quiet_close(sock)

    def one(self, sock, stream, conn):
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = []
        while (h := stream.readline().decode("latin-1").rstrip("\r\n")):
            name, _, value = h.partition(":")
            headers.append((name, value.strip()))
        low = {n.lower(): v for n, v in headers}
        if low.get("expect", "").lower() == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in low.get("transfer-encoding", ""):
            body = b""
            while (n := int(stream.readline().split(b";")[0], 16)):
                body += stream.read(n)
                stream.readline()
            stream.readline()
        else:
            body = self.body(stream, int(low.get("content-length", 0)))
            if len(body) < int(low.get("content-length", 0)):
                return False  # the client died while it sent
        with self.changed:
            req = Request(len(self.calls) + 1, conn, line[0], line[1], headers, body)
            self.calls.append(req)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.changed.notify_all()
        try:
            entry = self.scripts.get(req.number, self.always)
            reply = (entry(req) if callable(entry) else entry) or self.usual(req)
            answered = reply.fault in (None, "close_after") and reply.cut is None and not reply.endless
            req.status = reply.status if answered else None
            return self.send(sock, req, reply) and low.get("connection", "").lower() != "close"
        finally:
            with self.changed:
                self.in_flight -= 1
                req.end = time.monotonic()
                self.changed.notify_all()

    def body(self, stream, n):
        if not self.line:
            return stream.read(n)
        out, begin = b"", time.monotonic()
        while len(out) < n and (piece := stream.read(min(4096, n - len(out)))):
            out += piece
            time.sleep(max(0, begin + len(out) / self.line - time.monotonic()))
        return out

    def send(self, sock, req, reply):
        if reply.delay:
            time.sleep(reply.delay)
        if reply.fault == "hang":
            sock.settimeout(30)
            sock.recv(1)
            return False
        if reply.fault == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        if reply.fault in ("close", "reset"):
            return False
        head = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n" % (reply.status, reply.reason, reply.content_type)
        head += "".join("%s: %s\r\n" % kv for kv in reply.headers.items())
        if reply.endless:
            sock.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(reply.body) or 1, reply.body or b" "))
            while True:
                sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        data = head.encode() + b"Content-Length: %d\r\n\r\n" % len(reply.body)
        body = b"" if req.method == "HEAD" else reply.body
        if reply.cut is not None:
            sock.sendall(data + body[:reply.cut])
            return False
        if reply.slow:
            for i in range(len(data + body)):
                sock.sendall((data + body)[i:i + 1])
                time.sleep(reply.slow)
        else:
            req.answered = time.monotonic()
            sock.sendall(data + body)
        return reply.fault != "close_after"


def quiet_close(sock):
    for step in (lambda: sock.shutdown(socket.SHUT_RDWR), sock.close):
        try:
            step()
        except OSError:
            pass


# ---------------------------------------------------------------- Sync API

TYPES_OF_LMS = ("batch", "user_course")


class SyncApi(HttpPeer):
    """Answers as Sunbird's servers do: lms for batch and user_course, else userorg, which knows operationType sync.

    absent   ids that userorg's sync answers `false` beside esSyncResponse (user), or leaves out (organisation)
    """

    def __init__(self, path="/v1/data/sync", absent=(), **more):
        super().__init__(**more)
        self.path, self.absent = path, set(absent)

    @property
    def endpoint(self):
        return self.url + self.path

    def usual(self, req):
        if req.method != "POST" or req.path != self.path:
            return html(404)
        try:
            request = req.json["request"]
        except (ValueError, KeyError):
            return Reply(400, self.answer({}, "CLIENT_ERROR", "INVALID_REQUEST"))
        result = {"response": "SUCCESS"}
        ids, kind = request.get("objectIds"), request.get("objectType")
        if request.get("operationType") == "sync" and kind not in TYPES_OF_LMS:
            result["esSyncResponse"] = {i: True for i in ids if i not in self.absent}
            if kind == "user":
                result.update({i: False for i in ids if i in self.absent})
        return Reply(200, self.answer(result))

    @staticmethod
    def answer(result, code="OK", err=None):
        return {"id": "api.data.sync", "ver": "v1", "ts": "2026-01-01 00:00:00:000+0000", "params": {
            "resmsgid": None, "msgid": "0", "err": err, "status": err or "SUCCESS", "errmsg": err and "scripted"},
            "responseCode": code, "result": result}

    def error(self, status, err="INTERNAL_ERROR"):
        return Reply(status, self.answer({}, "CLIENT_ERROR" if status < 500 else "SERVER_ERROR", err))

    def blocks(self, only=None):
        """objectIds of every call, in order; only: those answered with that status."""
        return [c.json["request"]["objectIds"] for c in self.calls if only is None or c.status == only]

    def ids(self, only=200):
        """Every id that was accepted, one entry per sending; the user ids of {"userId": [...]} objects, too."""
        out = []
        for block in self.blocks(only):
            for e in block:
                out += e["userId"] if isinstance(e, dict) and isinstance(e.get("userId"), list) else [e]
        return out


# ---------------------------------------------------------------- Elasticsearch

class Elastic(HttpPeer):
    """Enough of Elasticsearch 7: GET /, HEAD and PUT of an index, _mapping, _bulk, _mget, _doc, _count, cluster state.

    indices  {index: {id: document}}, a document being {"_source", "_version", "_seq_no", "_primary_term"};
    item_script  function(action, meta, source) -> None or an item's answer: faults of single items
    blocks       what the cluster's state says of blocks; health: its status, and shards
                 that are `unassigned`
    other_shards primary terms of further shards, which hold nothing
    """

    def __init__(self, version="7.17.28", **more):
        super().__init__(**more)
        self.version, self.indices, self.deleted, self.meta = version, {}, {}, {}
        self.aliases, self.seq, self.terms, self.lock, self.item_script = {}, {}, {}, threading.RLock(), None
        self.blocks, self.health, self.unassigned, self.other_shards = {}, "green", 0, []

    def node(self):
        """Another node of the same cluster, not started."""
        other = Elastic(self.version)
        for name in ("indices", "deleted", "meta", "aliases", "seq", "terms", "lock", "blocks", "other_shards"):
            setattr(other, name, getattr(self, name))
        return other

    def index(self, name, **meta):
        self.indices.setdefault(name, {})
        self.deleted.setdefault(name, {})
        self.meta.setdefault(name, meta or {"mappings": {"properties": {}}, "settings": {}})
        self.terms.setdefault(name, 1)
        return self

    def put(self, index, id_, source):
        """A co-writer's write: no conditions."""
        with self.lock:
            return self.write(index, "index", {"_id": id_}, source)

    def sources(self, index):
        return {i: d["_source"] for i, d in self.indices.get(self.real(index), {}).items()}

    def real(self, name):
        return self.aliases.get(name, name)

    def write(self, index, action, meta, source):
        index = self.real(index)
        self.index(index)
        docs, dead, id_ = self.indices[index], self.deleted[index], meta["_id"]
        old, term = docs.get(id_), self.terms[index]
        base = {"_index": index, "_type": "_doc", "_id": id_}

        def refuse(reason):
            return dict(base, status=409, error={"type": "version_conflict_engine_exception", "reason": "[%s]: version conflict, %s" % (id_, reason)})
        if "if_seq_no" in meta:
            want = (meta["if_seq_no"], meta["if_primary_term"])
            have = (old["_seq_no"], old["_primary_term"]) if old else None
            if want != have:
                return refuse("required seqNo [%d], primary term [%d]. current document has seqNo [%s] and primary term [%s]" % (*want, *(have or (-2, 0))))
        if action == "create" and old:
            return refuse("document already exists (current version [%d])" % old["_version"])
        version = (old or dead.get(id_, {"_version": 0}))["_version"] + 1
        if meta.get("version_type", "").startswith("external"):
            known = (old or dead.get(id_, {"_version": -1}))["_version"]
            version = meta["version"]
            if version < known or (version == known and meta["version_type"] == "external"):
                return refuse("current version [%d] is higher than the one provided [%d]" % (known, version))
        self.seq[index] = seq = self.seq.get(index, -1) + 1
        done = dict(base, _version=version, _seq_no=seq, _primary_term=term, _shards={"total": 1, "successful": 1, "failed": 0})
        if action == "delete":
            dead[id_] = {"_version": version}
            docs.pop(id_, None)
            return dict(done, result="deleted" if old else "not_found", status=200 if old else 404)
        docs[id_] = {"_source": source, "_version": version, "_seq_no": seq, "_primary_term": term}
        return dict(done, result="updated" if old else "created", status=200 if old else 201)

    def usual(self, req):
        parts = [urllib.parse.unquote(p) for p in req.path.strip("/").split("/") if p]
        with self.lock:
            if not parts:
                return Reply(200, {"name": "n1", "cluster_name": "flow", "version": {"number": self.version, "build_flavor": "oss"},
                                   "tagline": "You Know, for Search"}, headers={"X-elastic-product": "Elasticsearch"})
            if parts[-1] == "_bulk":
                return self.bulk(req, parts[0] if len(parts) > 1 else None)
            if parts[-1] == "_mget":
                return self.mget(req, parts[0] if len(parts) > 1 else None)
            if parts[0] == "_cluster":
                return self.cluster(parts)
            if parts[0].startswith("_"):
                return Reply(200, {"acknowledged": True})
            return self.about_index(req, parts)

    def cluster(self, parts):
        if parts[1:2] == ["health"]:
            return Reply(200, {"cluster_name": "flow", "status": self.health, "timed_out": False, "number_of_nodes": 1,
                               "unassigned_shards": self.unassigned})
        indices = {n: {"primary_terms": {str(i): x for i, x in enumerate([t, *self.other_shards])}, "state": "open", "settings": {"index": self.meta[n].get("settings", {})},
                       "aliases": [a for a, i in self.aliases.items() if i == n], "mappings": {"_doc": self.meta[n].get("mappings", {})}}
                   for n, t in self.terms.items()}
        return Reply(200, {"cluster_name": "flow", "cluster_uuid": "u", "metadata": {"indices": indices}, "blocks": self.blocks})

    def about_index(self, req, parts):
        name = self.real(parts[0])
        if req.method == "PUT" and len(parts) == 1:
            if name in self.indices:
                return self.problem(400, "resource_already_exists_exception", "index [%s] already exists" % name)
            self.index(name, **(req.json if req.body else {}))
            return Reply(200, {"acknowledged": True, "shards_acknowledged": True, "index": name})
        if name not in self.indices:
            return self.problem(404, "index_not_found_exception", "no such index [%s]" % name)
        meta = self.meta[name]
        if len(parts) == 1:
            return Reply(200, {name: {"aliases": {}, "mappings": meta.get("mappings", {}), "settings": {"index": meta.get("settings", {})}}})
        if parts[1] in ("_mapping", "_mappings"):
            if req.method == "PUT":  # as the real ones: properties are added, _meta is replaced
                meta.setdefault("mappings", {}).update(req.json)
                return Reply(200, {"acknowledged": True})
            return Reply(200, {name: {"mappings": meta.get("mappings", {})}})
        if parts[1] == "_settings":
            return Reply(200, {name: {"settings": {"index": meta.get("settings", {})}}})
        if parts[1] == "_count":
            return Reply(200, {"count": len(self.indices[name])})
        if parts[1] == "_doc" and req.method == "GET":
            return Reply(200, self.document(name, parts[2]))
        return Reply(200, {"_shards": {"total": 1, "successful": 1, "failed": 0}})

    def document(self, index, id_):
        d = self.indices.get(index, {}).get(id_)
        head = {"_index": index, "_type": "_doc", "_id": id_}
        return dict(head, found=True, **d) if d else dict(head, found=False)

    def problem(self, status, type_, reason):
        return Reply(status, {"error": {"type": type_, "reason": reason, "root_cause": [{"type": type_, "reason": reason}]}, "status": status})

    def bulk(self, req, default):
        body = req.body
        if req.header("Content-Encoding") == "gzip":
            import gzip
            body = gzip.decompress(body)
        if not body.endswith(b"\n"):
            return self.problem(400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
        lines, items = iter([x for x in body.split(b"\n") if x.strip()]), []
        for line in lines:
            try:
                (action, meta), = json.loads(line).items()
            except ValueError:
                return self.problem(400, "illegal_argument_exception", "Malformed action/metadata line")
            source = json.loads(next(lines)) if action != "delete" else None
            if len(str(meta.get("_id", "")).encode()) > 512:
                return self.problem(400, "action_request_validation_exception", "id is too long")
            answer = self.item_script and self.item_script(action, meta, source)
            if answer:
                answer = dict({"_index": meta.get("_index") or default, "_id": meta["_id"]}, **answer)
            items.append({action: answer or self.write(meta.get("_index") or default, action, meta, source)})
        errors = any("error" in i for item in items for i in item.values())
        return Reply(200, {"took": 1, "errors": errors, "items": items})

    def mget(self, req, default):
        asked = req.json
        docs = asked.get("docs") or [{"_id": i} for i in asked["ids"]]
        out = []
        for d in docs:
            index = self.real(d.get("_index") or default)
            if index not in self.indices:
                out.append({"_index": index, "_id": d["_id"], "error": {"type": "index_not_found_exception", "reason": "no such index [%s]" % index}})
                continue
            doc = self.document(index, d["_id"])
            wanted = d.get("_source", req.query.get("_source"))
            if wanted in (False, "false"):
                doc.pop("_source", None)
            elif isinstance(wanted, (list, str)) and wanted not in ("true", "*") and "_source" in doc:
                names = wanted if isinstance(wanted, list) else wanted.split(",")
                doc["_source"] = {k: v for k, v in doc["_source"].items() if any(re.fullmatch(n.replace("*", ".*"), k) for n in names)}
            out.append(doc)
        return Reply(200, {"docs": out})
