#include "config/options.h"

#include <ctype.h>

#include "base/log.h"
#include "config/helper.h"
#include "config/value.h"

static void every_row_is_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];
        char flag[OPTION_NAME_BYTES];
        char env[OPTION_NAME_BYTES];
        size_t help = strlen(o->help);

        option_flag(o, flag);
        option_env(o, env);
        assert_ptr_equal(option_find(o->name), o);
        assert_true(o->commands != 0);
        assert_int_equal(o->required & ~o->commands, 0);
        assert_true(help > 5 && o->help[help - 1] == '.' && isupper((unsigned char)o->help[0]));
        assert_true((o->type == OPT_ENUM) == (o->choices != NULL));
        assert_true((o->type == OPT_SECRET) == (o->secret_file != NULL));
        assert_true(o->type != OPT_SECRET || option_find(o->secret_file) != NULL);
        assert_true(o->flag_only || strchr(o->name, '.') != NULL);
        for (size_t k = 0; k < i; k++) {
            char other[OPTION_NAME_BYTES];

            option_flag(&config_options[k], other);
            assert_string_not_equal(flag, other);
            assert_int_not_equal(o->offset, config_options[k].offset);
            assert_true(!o->param || !config_options[k].param ||
                        strcmp(o->param, config_options[k].param) != 0);
        }
    }
    assert_null(option_find("no.such"));
}

static void every_section_has_a_title(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_option_count; i++) {
        const char *dot = strchr(config_options[i].name, '.');
        bool found = !dot;

        for (const struct option_section *s = config_sections; dot && s->name; s++)
            found = found || slice_is(slice_of(config_options[i].name,
                                               (size_t)(dot - config_options[i].name)),
                                      s->name);
        assert_true(found);
    }
}

static void every_default_is_allowed_and_shown_as_written(void **state)
{
    struct config *c = config_new();

    (void)state;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];
        struct err err = {0};

        if (!o->def)
            continue;
        if (!value_store(c, o, FROM_DEFAULT, NULL, slice_str(o->def), &err))
            fail_msg("%s: %s", o->name, err.text);
        char *text = shown(c, o->name);
        bool minute = !strcmp(o->def, "60s") && !strcmp(text, "1m");
        if (!minute)
            assert_string_equal(text, o->def);
        free(text);
    }
    config_free(c);
}

static void choices_are_in_the_order_of_their_enum(void **state)
{
    static const struct {
        const char *name;
        int value;
        const char *word;
    } cases[] = {
        {"cassandra.compression", COMPRESSION_LZ4, "lz4"},
        {"ids.form", ID_FORM_AUTO, "auto"},
        {"ids.form", ID_FORM_STRING, "string"},
        {"ids.form", ID_FORM_OBJECT, "object"},
        {"ids.form", ID_FORM_OBJECT_PER_BLOCK, "object-per-block"},
        {"output.progress", PROGRESS_BAR, "bar"},
        {"output.progress", PROGRESS_PLAIN, "plain"},
        {"output.progress", PROGRESS_NONE, "none"},
        {"serve.dialect", DIALECT_LMS, "lms"},
        {"serve.dialect", DIALECT_USERORG, "userorg"},
        {"log.level", LOG_ERROR, "error"},
        {"log.level", LOG_WARN, "warn"},
        {"log.level", LOG_INFO, "info"},
        {"log.level", LOG_DEBUG, "debug"},
        {"log.format", LOG_TEXT, "text"},
        {"log.format", LOG_JSON, "json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(option_find(cases[i].name)->choices[cases[i].value], cases[i].word);
}

static void names_are_made_from_the_flag(void **state)
{
    char text[OPTION_NAME_BYTES];

    (void)state;
    option_flag(option_find("cassandra.connect_timeout"), text);
    assert_string_equal(text, "cassandra-connect-timeout");
    option_env(option_find("cassandra.connect_timeout"), text);
    assert_string_equal(text, "CASS2ES_CASSANDRA_CONNECT_TIMEOUT");
    option_env(option_find("sync_api.block_size"), text);
    assert_string_equal(text, "CASS2ES_BLOCK_SIZE");
}

static void faults_name_where_it_was_said(void **state)
{
    struct loaded l;
    struct err err = {0};

    (void)state;
    load_as(&l, FOR_SYNC, "--cassandra-hosts h --id-file x", NULL, NULL);
    assert_false(config_fault(l.config, "ids.file", &err, "no such file: %s", "x"));
    assert_string_equal(err.text, "--id-file: no such file: x");
    assert_false(config_fault(l.config, "sync.to", &err, "wanted"));
    assert_string_equal(err.text, "--to: wanted");
    assert_true(config_need(l.config, "ids.file", &err));
    assert_false(config_need(l.config, "sync.object_type", &err));
    assert_string_equal(err.text,
                        "sync.object_type is missing: --object-type (or CASS2ES_OBJECT_TYPE, "
                        "or sync.object_type in the file)");
    assert_string_equal(config_word(l.config, "cassandra.consistency"), "local_quorum");
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(every_section_has_a_title),
        cmocka_unit_test(every_default_is_allowed_and_shown_as_written),
        cmocka_unit_test(choices_are_in_the_order_of_their_enum),
        cmocka_unit_test(names_are_made_from_the_flag),
        cmocka_unit_test(faults_name_where_it_was_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
