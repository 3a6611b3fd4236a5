import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.io.sstable.CQLSSTableWriter;

/**
 * Writes a table of ids as SSTables, in the order of their tokens, without a server: millions of rows in a minute.
 * The ids are made from their number, so every machine measures the same rows.
 *
 *   Load DIR KEYSPACE TABLE ROWS [BIO | CREATE]
 *
 * With BIO, the documents that direct sync is measured with: a dozen columns of mixed types, one of them a text of about
 * BIO characters. With CREATE, a statement: ROWS partitions of one of Sunbird's user tables (Users.java).
 */
public class Load {
    static final String COLUMNS = "(id text PRIMARY KEY, name text, status text, updated bigint)";
    static final String DOCS = "(id uuid PRIMARY KEY, name text, email text, bio text, status text, age int, visits bigint,"
            + " score double, active boolean, created timestamp, tags list<text>, props map<text, text>)";
    static final String[] WORDS = ("table river green seven copy index state winter paper number garden light market orange"
            + " silver window caf\u00e9 na\u00efve \"quoted\" \u00fcber").split(" ");

    public static void main(String[] a) throws Exception {
        DatabaseDescriptor.toolInitialization(); // the settings of the node that will read them
        int rows = Integer.parseInt(a[3]);
        String table = a[1] + "." + a[2];
        sunbird = a.length > 4 && a[4].startsWith("CREATE") ? a[2] : null;
        docs = a.length > 4 && sunbird == null;
        int bio = docs ? Integer.parseInt(a[4]) : 0;
        String columns = docs ? DOCS : COLUMNS;
        String names = docs ? "(id, name, email, bio, status, age, visits, score, active, created, tags, props) VALUES"
                + " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" : "(id, name, status, updated) VALUES (?, ?, ?, ?)";
        try (CQLSSTableWriter writer = CQLSSTableWriter.builder()
                .inDirectory(a[0])
                .forTable(sunbird != null ? a[4] : "CREATE TABLE " + table + " " + columns)
                .using(sunbird != null ? Users.insert(a[1], sunbird) : "INSERT INTO " + table + " " + names)
                .withPartitioner(Murmur3Partitioner.instance)
                .sorted()
                .build()) {
            for (int[] part : byToken(rows)) {
                Integer[] order = Arrays.stream(part).boxed().toArray(Integer[]::new);
                Arrays.sort(order, (x, y) -> Long.compare(tokens[x], tokens[y]));
                for (int i : order) {
                    if (sunbird != null)
                        for (Object[] row : Users.rows(sunbird, i))
                            writer.addRow(row);
                    else if (docs)
                        writer.addRow(doc(i, bio));
                    else
                        writer.addRow(id(i), "name " + i, i % 10 == 0 ? "inactive" : "active", 1700000000000L + i);
                }
            }
        }
        System.exit(0);
    }

    static boolean docs;
    static String sunbird; // one of its tables; null: another kind
    static long[] tokens;

    static Object[] doc(int i, int bio) {
        long r = mix(i);
        boolean small = bio < 100;
        Map<String, String> props = new TreeMap<>();
        props.put("k", word(r >>> 8));
        if (!small) {
            props.put("lang", (r & 1) == 0 ? "en" : "de");
            props.put("place", word(r >>> 16));
        }
        List<String> tags = small ? List.of(word(r >>> 24)) : List.of(word(r >>> 24), word(r >>> 32), word(r >>> 40));
        return new Object[] {UUID.fromString(id(i)), word(r >>> 12) + " " + word(r >>> 20), "u" + i + "@x.org",
            prose(r, bio), (r & 7) == 0 ? "closed" : "active", 18 + (int) (r >>> 50 & 63), r >>> 40, (r >>> 44) / 1000.0,
            (r & 2) == 0, new Date(1500000000000L + (r >>> 26)), tags, props};
    }

    static String word(long r) {
        return WORDS[(int) (r & 15)];
    }

    static String prose(long seed, int bytes) {
        StringBuilder out = new StringBuilder(bytes + 12);
        for (long r = seed; out.length() < bytes; r = mix(r))
            out.append(WORDS[(int) (Long.remainderUnsigned(r, WORDS.length))]).append(' ');
        return out.toString();
    }

    static ByteBuffer key(int i) {
        if (!docs)
            return ByteBuffer.wrap((sunbird != null ? Users.key(sunbird, i) : id(i)).getBytes(StandardCharsets.US_ASCII));
        UUID u = UUID.fromString(id(i));
        return ByteBuffer.allocate(16).putLong(u.getMostSignificantBits()).putLong(u.getLeastSignificantBits()).flip();
    }

    /** The rows' numbers, in parts of which each has lower tokens than the next. */
    static int[][] byToken(int rows) {
        int parts = Math.max(1, Integer.highestOneBit(rows / 1000 + 1));
        int shift = Math.min(63, 64 - Integer.numberOfTrailingZeros(parts));
        int[] sizes = new int[parts];
        tokens = new long[rows];
        for (int i = 0; i < rows; i++) {
            tokens[i] = Murmur3Partitioner.instance.getToken(key(i)).token;
            sizes[part(tokens[i], shift, parts)]++;
        }
        int[][] out = new int[parts][];
        for (int p = 0; p < parts; p++)
            out[p] = new int[sizes[p]];
        for (int i = 0; i < rows; i++) {
            int p = part(tokens[i], shift, parts);
            out[p][--sizes[p]] = i;
        }
        return out;
    }

    static int part(long token, int shift, int parts) {
        return parts == 1 ? 0 : (int) ((token ^ Long.MIN_VALUE) >>> shift);
    }

    /** A UUID's text, of the length that Sunbird's ids have. */
    static String id(int i) {
        char[] out = new char[36];
        long high = mix(2L * i);
        long low = mix(2L * i + 1);
        for (int n = 0, at = 0; n < 32; n++) {
            if (n == 8 || n == 12 || n == 16 || n == 20)
                out[at++] = '-';
            out[at++] = "0123456789abcdef".charAt((int) ((n < 16 ? high : low) >>> 60));
            if (n < 16)
                high <<= 4;
            else
                low <<= 4;
        }
        return new String(out);
    }

    static long mix(long z) {
        z = (z + 1) * 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }
}
