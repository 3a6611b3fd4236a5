import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.io.sstable.CQLSSTableWriter;

/**
 * Writes a table of ids as SSTables, in the order of their tokens, without a server: millions of rows in a minute.
 * The ids are made from their number, so every machine measures the same rows.
 *
 *   Load DIR KEYSPACE TABLE ROWS
 */
public class Load {
    static final String COLUMNS = "(id text PRIMARY KEY, name text, status text, updated bigint)";

    public static void main(String[] a) throws Exception {
        DatabaseDescriptor.toolInitialization(); // the settings of the node that will read them
        int rows = Integer.parseInt(a[3]);
        String table = a[1] + "." + a[2];
        try (CQLSSTableWriter writer = CQLSSTableWriter.builder()
                .inDirectory(a[0])
                .forTable("CREATE TABLE " + table + " " + COLUMNS)
                .using("INSERT INTO " + table + " (id, name, status, updated) VALUES (?, ?, ?, ?)")
                .withPartitioner(Murmur3Partitioner.instance)
                .sorted()
                .build()) {
            for (int[] part : byToken(rows)) {
                Integer[] order = Arrays.stream(part).boxed().toArray(Integer[]::new);
                Arrays.sort(order, (x, y) -> Long.compare(tokens[x], tokens[y]));
                for (int i : order)
                    writer.addRow(id(i), "name " + i, i % 10 == 0 ? "inactive" : "active", 1700000000000L + i);
            }
        }
        System.exit(0);
    }

    static long[] tokens;

    /** The rows' numbers, in parts of which each has lower tokens than the next. */
    static int[][] byToken(int rows) {
        int parts = Math.max(1, Integer.highestOneBit(rows / 1000 + 1));
        int shift = Math.min(63, 64 - Integer.numberOfTrailingZeros(parts));
        int[] sizes = new int[parts];
        tokens = new long[rows];
        for (int i = 0; i < rows; i++) {
            ByteBuffer key = ByteBuffer.wrap(id(i).getBytes(StandardCharsets.US_ASCII));
            tokens[i] = Murmur3Partitioner.instance.getToken(key).token;
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
