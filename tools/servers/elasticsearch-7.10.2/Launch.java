import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.analysis.common.CommonAnalysisPlugin;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.mapper.MapperExtrasPlugin;
import org.elasticsearch.index.reindex.ReindexPlugin;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.percolator.PercolatorPlugin;
import org.elasticsearch.transport.Netty4Plugin;

/** Starts one Elasticsearch node in this process; its settings are in CONFIG/elasticsearch.yml. */
public final class Launch extends Node {
    private Launch(Path config) {
        super(InternalSettingsPreparer.prepareEnvironment(
                  Settings.builder().put("path.home", config.getParent().toString()).build(),
                  Map.of(), config, () -> "node"),
              List.of(Netty4Plugin.class, CommonAnalysisPlugin.class, ReindexPlugin.class,
                      MapperExtrasPlugin.class, PercolatorPlugin.class), false);
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
