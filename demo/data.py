"""Rows as a Sunbird installation has them, with everything that makes a sync job stumble; the same every time.

    for table, columns, rows in tables(sizes): ...      rows are tuples in the order of columns

Timestamps are milliseconds since the epoch. Text holds Hindi, emoji, quotes, line ends and tabs; any column that is
not a key may be null; collections are empty, short or long; some times lie before 1970 and in the year 9999.
"""
import base64
import datetime
import json
import random

SIZES = {"batches": 5000, "courses": 1500, "enrolments": 20000, "users": 10000, "locations": 200, "organisations": 60}

WORDS = ["प्रमाण", "शिक्षक", "गणित", "बैच", "தமிழ்", "తెలుగు", "ಕಾವ್ಯ", "অসমীয়া", "محمد", "Ελληνικά", "José", "Ñandú", "Marek “M”",
         "O'Neil", "say \"hello\"", "two\nlines", "Tab\there", "back\\slash", "𝔘nicode", "🎓", "👩‍🏫🇮🇳", "<b>&amp;</b>", "a,b;c",
         "null", "\u2028", "\u007f", "{\"not\": \"parsed\"}", "विज्ञान 7", "English", "Science", "Grade 6", "Class 10"]
NAMES = ["Asha", "Ravi", "सुनीता", "अर्जुन", "கவிதா", "ಕಾವ್ಯ", "Ananya", "José", "Zoë", "محمد", "D'Souza", "Li \"Lee\" Na", "Ștefan"]
ODD_COURSES = ["do 21 with blanks", "do_21,with,commas", 'do_21"quoted"', "do_21/with/slashes", "do_21'quoted'", "do_21\\back",
               "do_21;semi", "do_21%41+%2F", "do_21#hash?x=1&y=2", "पाठ्यक्रम_21", "do_21🎓", "do_21:colon", "null", "0"]
DISTRICTS = ["Pune", "Jaipur", "Kamrup", "मेरठ", "Guntur", "Bidar", "Saran, Bihar", "Leh \"Ladakh\""]
DAY = 86400_000
NOW = 1_750_000_000_000  # a fixed "today": 2025-06-15
LAST = 253402300799999  # the last millisecond of 9999


class Maker:
    """Draws values; one per table, so that a table does not depend on the sizes of the others."""

    def __init__(self, table):
        self.r = random.Random(f"cass2es {table}")

    def chance(self, share):
        return self.r.random() < share

    def uuid(self):
        h = f"{self.r.getrandbits(128):032x}"
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    def words(self, least=1, most=4):
        return " ".join(self.r.choice(WORDS) for _ in range(self.r.randint(least, most)))

    def maybe(self, value, share=0.7):
        """The value, or null. The value is always drawn, so that the rest stays the same."""
        return value if self.r.random() < share else None

    def ms(self):
        """Mostly of the last three years, now and then far away."""
        roll = self.r.random()
        if roll < 0.004:
            return -self.r.randrange(1, 40 * 365 * DAY)  # 1930 to 1969
        if roll < 0.008:
            return LAST - self.r.randrange(0, 300 * DAY)  # 9999
        return NOW - self.r.randrange(0, 1000 * DAY)

    def old_text(self, ms, pattern="%Y-%m-%d %H:%M:%S"):
        """As the services write text dates: 2023-02-14 07:28:34:698+0000."""
        when = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
        text = f"{when:{pattern}}"
        return text if pattern == "%Y-%m-%d" else f"{text}:{when.microsecond // 1000:03d}+0000"

    def cipher(self, size=32):
        return base64.b64encode(self.r.randbytes(size)).decode()

    def some(self, make, most=3):
        """A list of 0 to `most` (empty is null to Cassandra), rarely a long one."""
        return [make() for _ in range(40 if self.chance(0.003) else self.r.randint(0, most))]


def text(value):
    return json.dumps(value, ensure_ascii=False)


def course_ids(count):
    m = Maker("courses")
    odd = [f"{name}_{i}" if i >= len(ODD_COURSES) else name
           for i, name in enumerate(ODD_COURSES * (1 + count // 50 // len(ODD_COURSES)))][:max(count // 50, min(count, 14))]
    plain = [f"do_21{10**14 + m.r.randrange(10**14)}" for _ in range(count - len(odd))]
    ids = list(dict.fromkeys(odd + plain))
    while len(ids) < count:
        ids.append(f"do_22{10**14 + m.r.randrange(10**14)}")
    return ids


def user_ids(count):
    m = Maker("user ids")
    return [m.uuid() for _ in range(count)]


def organisation_ids(count):
    return [f"0125{10**14 + i * 7919:015d}" for i in range(count)]


def location_ids(count):
    m = Maker("location ids")
    return [m.uuid() for _ in range(count)]


def batch_keys(sizes):
    """(courseid, batchid): every course has a batch, some have many."""
    m, courses = Maker("batches"), course_ids(min(sizes["courses"], sizes["batches"]))
    for i in range(sizes["batches"]):
        course = courses[i] if i < len(courses) else courses[int(len(courses) * m.r.random() ** 2)]
        yield course, f"0130{10**13 + i * 104729:014d}"


BATCH = ("courseid batchid createdby createddate description enddate enrollmentenddate enrollmenttype name startdate updateddate "
         "createdfor mentors status cert_templates tandc created_date start_date end_date enrollment_enddate updated_date").split()


def batches(sizes):
    m, organisations = Maker("course_batch"), organisation_ids(sizes["organisations"])
    for n, (course, batch) in enumerate(batch_keys(sizes)):
        created, days = m.ms(), m.r.randrange(10, 200)
        start, end = (min(created + n_days * DAY, LAST) for n_days in (2, days))
        templates = {f"do_tpl{i}": {"identifier": f"do_tpl{i}", "name": m.words(1, 2), "issuer": text({"name": m.words(), "url": "https://example.org/"}),
                                    "criteria": text({"enrollment": {"status": 2}}), "notifyTemplate": "",
                                    "signatoryList": text([{"name": "CEO", "image": "https://example.org/a.png?x=1&y=2"}])}
                     for i in range(m.r.choice([0, 0, 0, 1, 2]))}
        yield (course, batch, m.maybe(m.uuid(), 0.95), m.maybe(m.old_text(created), 0.9), m.maybe(m.words(0, 12), 0.6),
               m.maybe(m.old_text(end, "%Y-%m-%d"), 0.8), m.maybe(m.old_text(end, "%Y-%m-%d"), 0.5), m.r.choice(["open", "open", "invite-only"]),
               f"{m.words()} {n}", m.maybe(m.old_text(start, "%Y-%m-%d")), m.maybe(m.old_text(created), 0.5),
               m.some(lambda: m.r.choice(organisations), 2), m.some(m.uuid, 2), m.r.choice([0, 1, 1, 1, 2]), templates,
               m.maybe(m.chance(0.5), 0.6), m.maybe(created, 0.9), m.maybe(start, 0.9), m.maybe(end, 0.8), m.maybe(end, 0.5), m.maybe(created, 0.5))


ENROLMENT = ("userid courseid batchid addedby enrolleddate lastreadcontentid active certificates completedon datetime completionpercentage "
             "lastreadcontentstatus progress status contentstatus issued_certificates certstatus enrolled_date lastcontentaccesstime").split()


def enrolments(sizes):
    m, users, keys = Maker("user_enrolments"), user_ids(sizes["users"]), list(batch_keys(sizes))
    seen = set()
    while len(seen) < sizes["enrolments"]:
        user, (course, batch) = users[int(len(users) * m.r.random() ** 1.3)], m.r.choice(keys)
        if (user, course, batch) in seen:
            continue
        seen.add((user, course, batch))
        when = m.ms()

        def certificate():
            return {"identifier": m.uuid(), "name": m.words(1, 2), "token": f"T{m.r.randrange(1000)}", "lastIssuedOn": m.old_text(when)}

        contents = {f"do_{m.r.randrange(10**6)}": m.r.choice([0, 1, 2]) for _ in range(m.r.choice([0, 0, 1, 5, 20]))}
        yield (user, course, batch, m.maybe(m.uuid(), 0.4), m.maybe(m.old_text(when), 0.8), m.maybe(f"do_{m.r.randrange(10**6)}"),
               m.chance(0.95), m.some(certificate, 1), m.maybe(when + 30 * DAY if when < NOW else when, 0.4), m.maybe(when), m.maybe(m.r.randrange(101)),
               m.maybe(m.r.choice([1, 2])), m.maybe(m.r.randrange(30)), m.r.choice([0, 1, 2]), contents, m.some(certificate, 1),
               m.maybe(1, 0.2), m.maybe(when, 0.9), m.maybe(when, 0.5))


USER = ("id userid username email phone createddate updateddate updatedby firstname lastname dob rootorgid loginid createdby countrycode "
        "status roles isdeleted emailverified channel phoneverified usertype framework locationids tncacceptedon tncacceptedversion maskedemail "
        "maskedphone prevusedphone prevusedemail recoveryemail recoveryphone flagsvalue managedby alltncaccepted usersubtype profilelocation "
        "profileusertype profileusertypes profiledetails").split()


def users(sizes):
    m, organisations, places = Maker("user"), organisation_ids(sizes["organisations"]), location_ids(sizes["locations"])
    for n, id_ in enumerate(user_ids(sizes["users"])):
        created = m.ms()
        kind = {"type": m.r.choice(["teacher", "student", "administrator", "other"]), "subType": m.r.choice([None, "hm", "crp"])}
        here = m.some(lambda: m.r.choice(places), 3) if places else []
        framework = {"board": ["CBSE", "सीबीएसई"], "medium": [m.words(1, 1) for _ in range(m.r.randint(0, 2))],
                     "gradeLevel": [f"Class {m.r.randint(1, 12)}"], "id": ["NCF"]} if m.chance(0.5) else {}
        tnc = {"groupsTnc": text({"tncAcceptedOn": m.old_text(created), "version": "3.5.0"})} if m.chance(0.3) else {}
        details = {"personalDetails": {"firstname": m.r.choice(NAMES), "n": m.r.randrange(10**12), "f": m.r.random()}, "tags": [1, None, m.words()]}
        yield (id_, id_, f"user_{n}_{m.r.choice('abc')}", m.maybe(m.cipher()), m.maybe(m.cipher(16)), m.old_text(created), m.maybe(m.old_text(created)),
               m.maybe(m.uuid(), 0.4), m.r.choice(NAMES), m.maybe(m.words(1, 2), 0.8), m.maybe(f"{m.r.randint(1950, 2015)}-12-31", 0.4),
               m.r.choice(organisations), m.maybe(m.cipher(), 0.3), m.maybe(m.uuid(), 0.5), m.maybe("+91", 0.8), m.r.choice([1, 1, 1, 0]),
               m.some(lambda: m.r.choice(["PUBLIC", "CONTENT_CREATOR", "COURSE_MENTOR", "ORG_ADMIN"]), 2), m.maybe(m.chance(0.05), 0.9),
               m.maybe(m.chance(0.5)), f"ch{m.r.randrange(9)}", m.maybe(m.chance(0.5)), m.maybe(kind["type"], 0.4), framework, here,
               m.maybe(m.ms(), 0.6), m.maybe(f"v{m.r.randrange(9)}"), m.maybe(f"a****{n}@example.org"), m.maybe("******1234"), m.maybe(m.cipher(16), 0.1),
               m.maybe(m.cipher(), 0.1), m.maybe(m.cipher(), 0.2), m.maybe(m.cipher(16), 0.2), m.maybe(m.r.randrange(8)), m.maybe(m.uuid(), 0.05), tnc,
               m.maybe(kind["subType"] or "", 0.5), m.r.choice([None, "", text([{"type": "district", "id": p} for p in here])]),
               m.r.choice([None, "not json", text(kind)]), m.r.choice([None, "[]", text([kind])]), m.maybe(text(details), 0.8))


def organisations(sizes):
    m, places = Maker("organisation"), location_ids(sizes["locations"])
    for n, id_ in enumerate(organisation_ids(sizes["organisations"])):
        when, here = m.old_text(m.ms()), [m.r.choice(places)] if places else []
        yield (id_, f"{m.words()} संस्था {n}", m.maybe(m.words(0, 5)), m.uuid(), when, m.maybe(when), m.maybe(m.uuid()), f"ch{n % 9}",
               id_ if n % 7 == 0 else organisation_ids(1)[0], m.maybe(f"ext-{n}"), m.maybe(f"ch{n % 9}"), f"slug-{n}", id_, m.maybe("[]", 0.2),
               1, n % 7 == 0, here, m.maybe(f"org{n}@example.org"), {"signKeys": [f"s≠{n}"], "none": []} if n % 3 == 0 else {},
               m.maybe(False), n % 7 == 0, m.maybe(text([{"id": p, "type": "district"} for p in here])), m.r.choice([1, 2, 5, 7]), None, None, None)


ORGANISATION = ("id orgname description createdby createddate updateddate updatedby channel rootorgid externalid provider slug hashtagid "
                "contactdetail status isrootorg locationids email keys isssoenabled istenant orglocation organisationtype "
                "organisationsubtype homeurl imgurl").split()


def locations(sizes):
    m, ids = Maker("location"), location_ids(sizes["locations"])
    for n, id_ in enumerate(ids):
        yield (id_, f"{m.r.choice(DISTRICTS)} {n}", f"LOC{n:04d}", ["state", "district", "block", "cluster"][min(3, n // 10)],
               None if n < 10 else ids[m.r.randrange(n)])


def memberships(sizes):
    m, organisations_ = Maker("user_organisation"), organisation_ids(sizes["organisations"])
    for user in user_ids(sizes["users"]):
        for organisation in m.r.sample(organisations_, min(len(organisations_), m.r.choice([0, 1, 1, 2]))):
            yield (user, organisation, m.old_text(m.ms()), m.maybe(m.chance(0.1), 0.9), [m.r.choice(["PUBLIC", "ORG_ADMIN"])], m.r.choice([1, 2]), m.uuid())


def roles(sizes):
    m, organisations_ = Maker("user_roles"), organisation_ids(sizes["organisations"])
    for user in user_ids(sizes["users"]):
        for role in m.r.sample(["CONTENT_CREATOR", "CONTENT_REVIEWER", "COURSE_MENTOR"], m.r.choice([0, 0, 0, 1, 2])):
            yield user, role, m.r.choice(["", "[", text([{"organisationId": m.r.choice(organisations_)}])]), m.old_text(m.ms())


def tables(sizes=None):
    """(table, its columns, an iterator of rows) for all tables; `sizes` overrides SIZES by name."""
    sizes = {**SIZES, **(sizes or {})}
    types = {"fields": [{"name": "School", "value": 2, "flagNameList": ["isSchool"]}, {"name": "Board", "value": 5, "flagNameList": ["isBoard"]}]}
    return [
        ("sunbird.location", "id name code type parentid".split(), locations(sizes)),
        ("sunbird.organisation", ORGANISATION, organisations(sizes)),
        ("sunbird.system_settings", "id field value".split(), [("orgTypeConfig", "orgTypeConfig", text(types))]),
        ("sunbird.user", USER, users(sizes)),
        ("sunbird.user_organisation", "userid organisationid orgjoindate isdeleted roles associationtype id".split(), memberships(sizes)),
        ("sunbird.user_roles", "userid role scope createddate".split(), roles(sizes)),
        ("sunbird_courses.course_batch", BATCH, batches(sizes)),
        ("sunbird_courses.user_enrolments", ENROLMENT, enrolments(sizes)),
    ]
