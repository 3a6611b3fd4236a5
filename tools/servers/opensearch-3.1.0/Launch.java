import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.function.Supplier;

/**
 * Starts one OpenSearch node in this process; its settings are in CONFIG/opensearch.yml. All by name: its classes are
 * for Java 21, and the compiler at hand, of Java 17, can't read them.
 */
public final class Launch {
    private static final List<String> PLUGINS = List.of("org.opensearch.transport.Netty4ModulePlugin",
                                                        "org.opensearch.index.reindex.ReindexModulePlugin");

    private static Object settings(Path home) throws Exception {
        Object builder = Class.forName("org.opensearch.common.settings.Settings").getMethod("builder").invoke(null);
        builder.getClass().getMethod("put", String.class, String.class).invoke(builder, "path.home", home.toString());
        return builder.getClass().getMethod("build").invoke(builder);
    }

    private static Object environment(Path config) throws Exception {
        Supplier<String> name = () -> "node";
        Method prepare = Class.forName("org.opensearch.node.InternalSettingsPreparer").getMethod(
            "prepareEnvironment", Class.forName("org.opensearch.common.settings.Settings"), Map.class, Path.class,
            Supplier.class);
        return prepare.invoke(null, settings(config.getParent()), Map.of(), config, name);
    }

    /** A plugin that is on the class path, not in a folder of its own. */
    private static Object plugin(String name) {
        try {
            Class<?> version = Class.forName("org.opensearch.Version");
            return Class.forName("org.opensearch.plugins.PluginInfo")
                .getConstructor(String.class, String.class, String.class, version, String.class, String.class,
                                String.class, List.class, boolean.class)
                .newInstance(name, "on the class path", "3", version.getField("CURRENT").get(null), "21", name, null,
                             List.of(), false);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    public static void main(String[] args) throws Exception {
        Object environment = environment(Path.of(args[0]));
        Class<?> type = Class.forName("org.opensearch.node.Node");
        Constructor<?> make = type.getDeclaredConstructor(environment.getClass(), Collection.class, boolean.class);
        make.setAccessible(true);
        Object node = make.newInstance(environment, PLUGINS.stream().map(Launch::plugin).toList(), false);
        type.getMethod("start").invoke(node);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                type.getMethod("close").invoke(node);
            } catch (ReflectiveOperationException e) {
                e.printStackTrace();
            }
        }));
        new CountDownLatch(1).await();
    }
}
