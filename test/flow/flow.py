"""What flow tests share: the program against scripted peers on loopback. One behaviour each, milliseconds to a second.

Run: /usr/bin/python3 -m pytest test/flow   (CASS2ES_BIN names the program; --long adds the slow ones)
"""
import collections
import json
import re
import ssl
import subprocess
import time

KEY = "k3y-As23456789zws34567w234"
PASSWORD = "pa55-w0rd-never-shown"
# A machine under load may stand still for longer than the limits that hold by default; flags hold before these.
PATIENT = {"CASS2ES_CASSANDRA_CONNECT_TIMEOUT": "30s", "CASS2ES_HTTP_CONNECT_TIMEOUT": "30s", "CASS2ES_SYNC_TIMEOUT": "60s"}
QUICK = ("--retry-budget", "400ms")  # gives up soon


def sunbird(ring, users=0):
    """The tables of a Sunbird installation, as far as the job needs them."""
    ring.table("sunbird", "user", "id text, firstname text, channel text", "id",
               rows=[("user-%04d" % i, "n%d" % i, "ch") for i in range(users)])
    ring.table("sunbird", "organisation", "id text, orgname text", "id")
    ring.table("sunbird", "location", "id text, name text", "id")
    ring.table("sunbird_courses", "course_batch", "courseid text, batchid text, name text", "courseid", "batchid")
    ring.table("sunbird_courses", "user_enrolments", "userid text, courseid text, batchid text, active boolean", "userid",
               ["courseid", "batchid"])
    return ring


def cass(ring, tries=1):
    """
    The flags that name the peer.
      tries  contact points, all of them the first node: each is asked once when the cluster is opened, so several
             bear a peer that stands still longer than a short --cassandra-request-timeout
    """
    return ["--cassandra-hosts", ",".join([ring.address] * tries), "--cassandra-port", ring.port]


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not (seen := what()) and time.monotonic() < end:
        time.sleep(0.05)
    assert seen
    return seen


def one_of(times, attempt):
    """
    attempt() -> None, or what was not as quick as it must be. A defect makes each of them slow, a machine that stands
    still only one.
    """
    wrong = []
    while (slow := attempt()) is not None:
        wrong.append(slow)
        assert len(wrong) < times, wrong


def goes_elsewhere(ring, node, ask, told=lambda: None):
    """
    The node that answers is soon another one.
      told  says again that the node is down: an answer that was under way when it was told is a sign of life
    """
    def elsewhere():
        told()
        time.sleep(0.3)  # the event comes by another connection than the answer
        ask()
        return ring.seen("EXECUTE")[-1].node is not node
    until(elsewhere)


class Job:
    """`cass2es sync --context_param ...` with short names for the parameters."""

    LONG = {"server": "sunbird_cassandra_server", "port": "sunbird_cassandra_port", "username": "sunbird_cassandra_username",
            "password": "sunbird_cassandra_password", "keyspace": "sunbird_cassandra_keyspace",
            "endpoint": "sunbird_sync_api_endpoint", "key": "sunbird_sync_api_key", "block": "sunbird_sync_block_size",
            "pause": "sunbird_sync_sleep_time", "id_file": "sunbird_sync_id_file", "table": "sunbird_cassandra_table",
            "type": "sunbird_sync_object_type", "dry_run": "dry_run"}

    def __init__(self, program, ring, api):
        self.program, self.ring, self.api = program, ring, api

    def args(self, *flags, ids=None, **params):
        if ids is not None:
            text = ids if isinstance(ids, (str, bytes)) else "".join("%s\n" % i for i in ids)
            self.program.file("ids.csv", text)
            params["id_file"] = "ids.csv"
        base = {"dry_run": "false", "server": self.ring.address, "port": self.ring.port, "endpoint": self.api.endpoint,
                "key": KEY, "pause": 0, "type": "user", "table": "user"}
        base.update(params)
        out = ["sync"]
        for name, value in base.items():
            if value is not None:
                out += ["--context_param", "%s=%s" % (self.LONG.get(name, name), value)]
        return out + ["--log-dir", self.program.logs] + list(flags)

    def start(self, *flags, stdin=None, env=None, more=None, **params):
        return self.program.start(*self.args(*flags, **params), stdin=stdin, env=env, **(more or {}))

    def run(self, *flags, stdin=None, env=None, timeout=30, more=None, **params):
        return self.program.finish(self.start(*flags, stdin=stdin, env=env, more=more, **params), timeout)


def rows_of(text):
    """JSON lines -> list of objects."""
    return [json.loads(line) for line in text.split("\n") if line]


def counted(items):
    return collections.Counter(json.dumps(i, sort_keys=True) for i in items)


def says(result, *patterns, code=None):
    """The result has this exit code, and every pattern is in what it printed."""
    if code is not None:
        assert result.code == code, result
    for p in patterns:
        assert re.search(p, result.out + result.err, re.I | re.M), "no %r in\n%r" % (p, result)
    return result


class Certs:
    """A CA, a server certificate for localhost and 127.0.0.1, one for another name, and a client certificate."""

    def __init__(self, folder):
        self.folder = folder
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", "/CN=flow CA", "-keyout", self.ca_key, "-out", self.ca)
        self.make("server", "DNS:localhost,IP:127.0.0.1,IP:127.0.0.2")
        self.make("other", "DNS:db.example.org")
        self.make("client", "DNS:client")

    def openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def make(self, name, alt):
        f = self.folder
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
                     "-keyout", f / (name + ".key"), "-out", f / (name + ".csr"))
        (f / "ext").write_text("subjectAltName=" + alt)
        self.openssl("x509", "-req", "-in", f / (name + ".csr"), "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial",
                     "-days", "2", "-extfile", f / "ext", "-out", f / (name + ".pem"))

    def pem(self, name):
        return str(self.folder / (name + ".pem"))

    def key(self, name):
        return str(self.folder / (name + ".key"))

    def server_context(self, name="server", client=False):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(self.pem(name), self.key(name))
        if client:
            c.verify_mode = ssl.CERT_REQUIRED
            c.load_verify_locations(self.ca)
        return c
