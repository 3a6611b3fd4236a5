#!/usr/bin/python3
"""The demo's side of Elasticsearch.

    indices.py prepare            empty indices as Sunbird has them, and three batches that its services wrote
    indices.py wait SECONDS       until the counts are equal, or do not change any more
    indices.py compare            counts in Cassandra and in Elasticsearch, side by side; exit 1 when different
"""
import collections
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "test/lib")]

import servers  # noqa: E402

# The table, the index or alias, the columns that make the document's id, and a column with its field to compare.
PAIRS = [("sunbird_courses.course_batch", "course-batch", ["batchid"], ("name", "name")),
         ("sunbird.location", "location", ["id"], ("name", "name")),
         ("sunbird.organisation", "org_alias", ["id"], ("orgname", "orgName")),
         ("sunbird.user", "user_alias", ["id"], ("lastname", "lastName")),
         ("sunbird_courses.user_enrolments", "user-courses", ["batchid", "userid"], ("courseid", "courseId"))]
# What Sunbird's own services keep in the index only.
OWN = {"participantCount": 17, "completedCount": 5, "reportUpdatedOn": "2025-06-01"}


def prepare():
    elastic, db = servers.elastic(), servers.session()
    for path in sorted((HERE / "indices").glob("*.json")):
        definition = json.loads(path.read_text())
        elastic.delete(path.stem)
        elastic.create(path.stem, definition["mappings"], aliases=definition.get("aliases"))
        print(f"index {path.stem} is empty")
    lines = []
    for row in db.execute("SELECT courseid, batchid FROM sunbird_courses.course_batch LIMIT 3"):
        lines += [{"index": {"_id": row.batchid}}, {"courseId": row.courseid, "batchId": row.batchid, "name": "an old name", **OWN}]
    elastic.ok("POST", "/course-batch/_bulk?refresh=true", lines=lines)
    print(f"{len(lines) // 2} old batches are in course-batch, with {', '.join(OWN)} that no table has")
    db.cluster.shutdown()


def counts(db, elastic):
    return [(table, index, db.execute(f"SELECT count(*) FROM {table}", timeout=60).one()[0], elastic.count(index))
            for table, index, _, _ in PAIRS]


def wait(seconds):
    elastic, db = servers.elastic(), servers.session()
    deadline, since, before = time.monotonic() + seconds, time.monotonic(), None
    while time.monotonic() < deadline:
        now = counts(db, elastic)
        if now != before:
            before, since = now, time.monotonic()
        if all(rows == documents for _, _, rows, documents in now) or time.monotonic() - since > 15:
            break
        time.sleep(0.3)
    db.cluster.shutdown()


def differences(db, elastic):
    """What is in one only, or has another value: (table, text) pairs."""
    for table, index, key, (column, field) in PAIRS:
        rows = {"_".join(row[:-1]): row[-1] for row in db.execute(f"SELECT {', '.join(key)}, {column} FROM {table}")}
        documents = elastic.docs(index)
        for words, ids in (("in Cassandra only", rows.keys() - documents.keys()),
                           ("in Elasticsearch only", documents.keys() - rows.keys()),
                           (f"with another {field}", [i for i in rows.keys() & documents.keys() if documents[i].get(field) != rows[i]])):
            if ids:
                yield table, f"{len(ids)} {words}, for instance {sorted(ids)[0]}"
        if index == "course-batch" and sum(OWN.items() <= d.items() for d in documents.values()) != 3:
            yield table, f"the fields {', '.join(OWN)} of three documents did not survive"
        if index == "user_alias":
            yield from differences_inside(db, documents)


def differences_inside(db, users):
    """Users hold rows of two more tables: memberships that are not deleted, and roles."""
    memberships, roles = collections.Counter(), collections.Counter()
    for row in db.execute("SELECT userid, isdeleted FROM sunbird.user_organisation"):
        memberships[row.userid] += row.isdeleted is False
    for row in db.execute("SELECT userid FROM sunbird.user_roles"):
        roles[row.userid] += 1
    for table, field, there in (("user_organisation", "organisations", memberships), ("user_roles", "roles", roles)):
        wrong = [i for i, user in users.items() if len(user.get(field) or []) != there[i]]
        if wrong:
            yield f"sunbird.{table}", f"{len(wrong)} users with other {field}, for instance {sorted(wrong)[0]}"


def compare():
    elastic, db = servers.elastic(), servers.session()
    print(f"{'table':<32}{'Cassandra':>10}   {'index':<14}{'Elasticsearch':>14}")
    for table, index, rows, documents in counts(db, elastic):
        print(f"{table:<32}{rows:>10}   {index:<14}{documents:>14}   {'equal' if rows == documents else 'DIFFERENT'}")
    found = list(differences(db, elastic))
    for table, words in found:
        print(f"DIFFERENT: {table}: {words}")
    db.cluster.shutdown()
    if not found:
        print("every id and name is equal, users have their organisations and roles, and what Sunbird's services keep in the index only "
              "is still there")
    return 1 if found else 0


if __name__ == "__main__":
    command, rest = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    sys.exit({"prepare": prepare, "wait": lambda: wait(float(rest[0])), "compare": compare}[command]())
