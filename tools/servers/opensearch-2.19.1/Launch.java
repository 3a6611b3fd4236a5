import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** Starts one OpenSearch node in this process; its settings are in CONFIG/opensearch.yml. */
public final class Launch extends Node {
    private Launch(Path config) {
        super(InternalSettingsPreparer.prepareEnvironment(
                  Settings.builder().put("path.home", config.getParent().toString()).build(),
                  Map.of(), config, () -> "node"),
              List.of(Netty4Plugin.class, CommonAnalysisPlugin.class, ReindexPlugin.class), false);
    }

    public static void main(String[] args) throws Exception {
        Node node = new Launch(Path.of(args[0])).start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        new CountDownLatch(1).await();
    }
}
