#include "config/yaml.h"

#include "config/helper.h"
#include "config/value.h"

static bool read_text(struct config *c, const char *text, struct err *err)
{
    return yaml_settings(c, "c.yaml", slice_str(text), err);
}

static void settings_are_taken(void **state)
{
    static const struct {
        const char *text, *name, *value;
    } cases[] = {
        {"cassandra:\n  port: 1\n", "cassandra.port", "1"},
        {"cassandra: {port: 2}", "cassandra.port", "2"},
        {"cassandra:\n  hosts: [a, \"b:1\"]\n", "cassandra.hosts", "a,b:1"},
        {"cassandra:\n  hosts:\n  - a\n  - b\n", "cassandra.hosts", "a,b"},
        {"cassandra:\n  hosts: a, b\n", "cassandra.hosts", "a,b"},
        {"cassandra:\n  hosts: []\n", "cassandra.hosts", ""},
        {"cassandra:\n  username:\n", "cassandra.username", ""},
        {"cassandra:\n  username: ~\n", "cassandra.username", ""},
        {"cassandra:\n  username: \"null\"\n", "cassandra.username", "null"},
        {"cassandra:\n  username: 'a: b'\n", "cassandra.username", "a: b"},
        {"cassandra:\n  username: &u bob\nelastic:\n  username: *u\n", "elastic.username", "bob"},
        {"cassandra:\n  password: x\n", "cassandra.password", "***"},
        {"cassandra:\nsync_api:\n  pause: 10m\n", "sync_api.pause", "10m"},
        {"sync:\n  dry_run: yes\n", "sync.dry_run", "true"},
        {"", "cassandra.username", ""},
        {"# nothing\n", "cassandra.username", ""},
        {"---\n...\n", "cassandra.username", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *c = config_new();
        struct err err = {0};

        if (!read_text(c, cases[i].text, &err))
            fail_msg("%s: %s", cases[i].text, err.text);
        char *text = shown(c, cases[i].name);
        assert_string_equal(text, cases[i].value);
        free(text);
        config_free(c);
    }
}

static void faults_are_told_with_their_place(void **state)
{
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"cassandra:\n  prot: 1\n",
         "c.yaml:2:3: unknown setting 'cassandra.prot'; did you mean cassandra.port?"},
        {"casandra:\n  port: 1\n",
         "c.yaml:1:1: unknown section 'casandra'; did you mean cassandra?"},
        {"zzzzzzzz: 1\n", "c.yaml:1:1: unknown section 'zzzzzzzz'"},
        {"cassandra:\n  port: many\n",
         "c.yaml:2:9: cassandra.port: 'many' is not a whole number (1 to 65535)"},
        {"cassandra:\n  port: 0\n", "c.yaml:2:9: cassandra.port: '0' is out of range (1 to 65535)"},
        {"cassandra:\n  port: [1]\n", "c.yaml:2:9: a single value is expected"},
        {"cassandra:\n  port:\n    a: 1\n", "c.yaml:3:5: a single value is expected"},
        {"cassandra:\n  hosts: [a, [b]]\n", "c.yaml:2:14: a text, or a list of texts, is expected"},
        {"cassandra:\n  port: 1\n  port: 2\n", "c.yaml:3:3: this setting is said twice"},
        {"cassandra:\n  port: 1\ncassandra:\n  port: 2\n",
         "c.yaml:4:3: this setting is said twice"},
        {"cassandra: 5\n", "c.yaml:1:12: settings are expected, such as \"port: 9042\""},
        {"- a\n", "c.yaml:1:1: sections are expected, such as \"cassandra:\""},
        {"[a]: 1\n", "c.yaml:1:1: the name of a section is expected"},
        {"cassandra:\n  [a]: 1\n", "c.yaml:2:3: the name of a setting is expected"},
        {"cassandra: {}\n---\ncassandra: {}\n", "c.yaml:3:1: a second document; one is expected"},
        {"cassandra: [\n", "c.yaml:2:1: did not find expected node content"},
        {"cassandra:\n\tport: 1\n", "c.yaml:2:1: found character that cannot start any token"},
        {"cassandra:\n  username: *nobody\n", "c.yaml:2:13: found undefined alias"},
        {"a: \xff\n", "c.yaml: byte 3: invalid leading UTF-8 octet"},
        {"print_config: true\n", "c.yaml:1:1: unknown section 'print_config'"},
        {"cassandra:\n  password: \"a\\0b\"\n",
         "c.yaml:2:13: cassandra.password: a NUL byte in the value"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *c = config_new();
        struct err err = {0};

        if (read_text(c, cases[i].text, &err))
            fail_msg("taken: %s", cases[i].text);
        assert_string_equal(err.text, cases[i].fault);
        assert_int_equal(err.kind, ERR_USER);
        config_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_taken),
        cmocka_unit_test(faults_are_told_with_their_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
