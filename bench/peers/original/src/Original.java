import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.cql.Row;
import java.io.*;
import java.net.*;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;

/**
 * The logic of the job that cass2es replaces, made again for measuring: ids of a table into a file, all of them read
 * back into memory, sequential calls of a block each, each printed as a curl line, a log entry per call, no pause.
 *
 *   Original HOST PORT USER PASSWORD KEYSPACE TABLE COLUMN ENDPOINT BLOCK WORKDIR
 */
public class Original {
    public static void main(String[] a) throws Exception {
        Path file = Paths.get(a[9], "syncIds.csv");
        Charset latin = Charset.forName("ISO-8859-15");
        try (CqlSession session = CqlSession.builder().addContactPoint(new InetSocketAddress(a[0], Integer.parseInt(a[1])))
                     .withLocalDatacenter(System.getProperty("dc", "datacenter1")).withAuthCredentials(a[2], a[3]).build();
                BufferedWriter out = Files.newBufferedWriter(file, latin)) {
            for (Row row : session.execute("select " + a[6] + " from " + a[4] + "." + a[5])) {
                out.write(row.getString(0));
                out.newLine();
            }
        }
        List<String> ids = new ArrayList<>();
        try (BufferedReader in = Files.newBufferedReader(file, latin)) {
            for (String line; (line = in.readLine()) != null;)
                ids.add(line);
        }
        int block = Integer.parseInt(a[8]);
        int calls = 0;
        long now = System.currentTimeMillis();
        try (FileWriter success = new FileWriter(Paths.get(a[9], "SyncSuccess_" + now + ".log").toFile());
                FileWriter failure = new FileWriter(Paths.get(a[9], "SyncFailure_" + now + ".log").toFile())) {
            for (int i = 0; i < ids.size(); i += block) {
                StringBuilder body = new StringBuilder(
                        "{\"params\":{},\"request\":{\"objectType\":\"user\",\"operationFor\":\"es\",\"objectIds\":[");
                int end = Math.min(i + block, ids.size());
                for (int k = i; k < end; k++)
                    body.append(k > i ? "," : "").append('"').append(ids.get(k)).append('"');
                body.append("]}}");
                call(a[7], body.toString(), ++calls, success, failure);
                System.out.println("Sync API call done for " + end + "/" + ids.size() + " records...");
            }
        }
    }

    static void call(String endpoint, String body, int no, Writer success, Writer failure) throws IOException {
        System.out.println("curl -X POST '" + endpoint + "' -H 'Content-Type: application/json' -H 'Authorization: Bearer '"
                + " -d '" + body + "'");
        HttpURLConnection c = (HttpURLConnection) new URL(endpoint).openConnection();
        c.setRequestMethod("POST");
        c.setRequestProperty("Content-Type", "application/json");
        c.setRequestProperty("Authorization", "Bearer ");
        c.setDoOutput(true);
        try (OutputStream out = c.getOutputStream()) {
            out.write(body.getBytes(StandardCharsets.UTF_8));
        }
        int status = c.getResponseCode();
        StringBuilder answer = new StringBuilder();
        InputStream stream = status < 400 ? c.getInputStream() : c.getErrorStream();
        try (BufferedReader in = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8))) {
            for (String line; (line = in.readLine()) != null;)
                answer.append(line);
        }
        Writer log = status == 200 ? success : failure;
        log.write("Request No : " + no + "\nRequest : " + body + "\nResponse : " + answer + "\n\n");
    }
}
