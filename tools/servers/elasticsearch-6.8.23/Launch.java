import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.reindex.ReindexPlugin;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.transport.Netty4Plugin;

/** Starts one Elasticsearch node in this process; its settings are in CONFIG/elasticsearch.yml. */
public final class Launch extends Node {
    private Launch(Path config) {
        super(InternalSettingsPreparer.prepareEnvironment(
                  Settings.builder().put("path.home", config.getParent().toString()).build(),
                  null, Map.of(), config),
              List.of(Netty4Plugin.class, ReindexPlugin.class), false);
    }

    @Override
    protected void registerDerivedNodeNameWithLogger(String name) {
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
