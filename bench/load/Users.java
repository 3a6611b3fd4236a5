import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Rows of Sunbird's user tables, made from a user's number: about 1 KB of a user, 1 or 2 memberships, 1 or 2 roles. */
class Users {
    static final int ORGS = 2000;
    static final Map<String, String> COLUMNS = Map.of(
            "user", "id, userid, username, email, phone, firstname, lastname, rootorgid, channel, status, isdeleted,"
                    + " createddate, updateddate, framework, locationids, tncacceptedon, tncacceptedversion, maskedemail,"
                    + " maskedphone, flagsvalue, usertype, alltncaccepted, profilelocation, profileusertype, profileusertypes,"
                    + " profiledetails",
            "user_organisation", "userid, organisationid, id, hashtagid, orgjoindate, addedby, isapproved, isdeleted, isrejected,"
                    + " roles, associationtype",
            "user_roles", "userid, role, scope, createddate, createdby",
            "organisation", "id, orgname, description, channel, rootorgid, hashtagid, status, isrootorg, slug, createddate");

    static String insert(String keyspace, String table) {
        String columns = COLUMNS.get(table);
        return "INSERT INTO " + keyspace + "." + table + " (" + columns + ") VALUES (?" + ", ?".repeat(columns.split(",").length - 1)
                + ")";
    }

    static String key(String table, int i) {
        return table.equals("organisation") ? org(i) : Load.id(i);
    }

    static String org(long i) {
        return "0130" + (100000000000000L + i);
    }

    /** All of the partition, in clustering order. */
    static Object[][] rows(String table, int i) {
        long r = Load.mix(7L * i);
        boolean two = (r & 1) == 0;
        String id = key(table, i);
        switch (table) {
        case "user":
            return new Object[][] {user(id, i, r)};
        case "user_organisation":
            long first = (r >>> 8) % ORGS, second = (r >>> 20) % ORGS;
            if (!two || first == second)
                return new Object[][] {membership(id, first, false)};
            return new Object[][] {membership(id, Math.min(first, second), false),
                    membership(id, Math.max(first, second), (r & 14) == 0)};
        case "user_roles":
            Object[] creator = role(id, "CONTENT_CREATOR", r);
            Object[] everyone = role(id, "PUBLIC", r);
            return (r & 2) == 0 ? new Object[][] {creator, everyone} : new Object[][] {everyone};
        default:
            return new Object[][] {{id, "School of " + Load.word(r) + " " + i, Load.prose(r, 60), "channel" + i % 40, org(i % 40), id, 1,
                    i < 40, "school-" + i, "2021-03-04 10:11:12:131+0000"}};
        }
    }

    static Object[] user(String id, int i, long r) {
        Map<String, Object> framework = new TreeMap<>();
        framework.put("board", List.of("CBSE"));
        framework.put("gradeLevel", List.of("Class " + (r >>> 4 & 7), "Class " + (r >>> 7 & 7)));
        framework.put("medium", List.of("English"));
        String date = "2021-0" + (1 + (r >>> 10 & 7)) + "-11 07:08:09:010+0000";
        return new Object[] {id, id, "user" + i, cipher(r, 88), cipher(r >>> 3, 44), Load.word(r), Load.word(r >>> 4),
                org((r >>> 8) % 40), "channel" + i % 40, 1, false, date, date, framework, List.of(Load.id(i % 700), Load.id(i % 30)),
                new Date(1600000000000L + (r >>> 26)), "3.9.0", "us***" + i % 100 + "@x.org", "******" + (1000 + i % 9000), i % 8,
                "teacher",
                Map.of("groupsTnc", "{\"tncAcceptedOn\":\"" + date + "\",\"version\":\"3.5.0\"}"),
                "[{\"id\":\"" + Load.id(i % 30) + "\",\"type\":\"state\"},{\"id\":\"" + Load.id(i % 700) + "\",\"type\":\"district\"}]",
                "{\"type\":\"teacher\"}", "[{\"type\":\"teacher\"},{\"type\":\"administrator\"}]",
                "{\"personalDetails\":{\"firstname\":\"" + Load.word(r).replace("\"", "") + "\"}}"};
    }

    static Object[] membership(String id, long org, boolean deleted) {
        return new Object[] {id, org(org), Load.id((int) org), org(org), "2021-05-06 10:11:12:131+0000", id, true, deleted, false,
                List.of("PUBLIC"), 1};
    }

    static Object[] role(String id, String role, long r) {
        return new Object[] {id, role, "[{\"organisationId\":\"" + org((r >>> 8) % ORGS) + "\"}]", "2021-05-06 10:11:12:131+0000", id};
    }

    static String cipher(long seed, int length) {
        StringBuilder out = new StringBuilder(length);
        for (long r = seed; out.length() < length - 2; r = Load.mix(r))
            out.append("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".charAt((int) (r >>> 58)));
        return out + "==";
    }
}
