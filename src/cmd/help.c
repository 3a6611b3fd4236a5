/*
 * cmd/help.c - every printed page, made from the tables of commands, options and exit codes:
 * --help, the man page, doc/reference, bash completion.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"

enum { PAGE_MAX_BYTES = 1 << 20, COLUMNS = 96 };

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Words of `text`, broken before COLUMNS; each further line begins with `indent` blanks. The first
 * begins at `column`. */
static void add_wrapped(struct buf *out, const char *text, size_t indent, size_t column)
{
    while (*text) {
        size_t word = strcspn(text, " \n");
        char end = text[word];
        const char *next = text + word + (end != '\0');

        buf_add(out, text, word);
        column += word;
        if (end == '\n' || (end && column + 1 + strcspn(next, " \n") > COLUMNS)) {
            buf_printf(out, "\n%*s", *next == '\n' ? 0 : (int)indent, "");
            column = indent;
        } else if (end) {
            buf_add_byte(out, ' ');
            column++;
        }
        text = next;
    }
    buf_add_byte(out, '\n');
}

/* "N", "DURATION", "none|lz4" */
static void add_value_name(struct buf *out, const struct option *o)
{
    if (o->value) {
        buf_add_str(out, o->value);
        return;
    }
    switch (o->type) {
    case OPT_ENUM:
        for (size_t i = 0; o->choices[i]; i++)
            buf_printf(out, "%s%s", i ? "|" : "", o->choices[i]);
        break;
    case OPT_DURATION:
        buf_add_str(out, o->bare_ms ? "MS|DURATION" : "DURATION");
        break;
    case OPT_SIZE:
        buf_add_str(out, "SIZE");
        break;
    case OPT_INT:
        buf_add_str(out, "N");
        break;
    case OPT_BOOL:
    case OPT_STRING:
    case OPT_LIST:
    case OPT_SECRET:
        buf_add_str(out, "TEXT");
        break;
    }
}

/* "--block-size IDS", "--[no-]dry-run" */
static void add_flag(struct buf *out, const struct option *o)
{
    char flag[OPTION_NAME_BYTES];

    option_flag(o, flag);
    if (o->type == OPT_BOOL) {
        buf_printf(out, o->flag_only ? "--%s" : "--[no-]%s", flag);
        return;
    }
    buf_printf(out, "--%s ", flag);
    add_value_name(out, o);
}

static void add_default(struct buf *out, const struct option *o)
{
    if (o->def_shown)
        buf_add_str(out, o->def_shown);
    else if (o->def)
        buf_add_str(out, o->def);
}

/* The help's sentence with range and default behind it. */
static void add_meaning(struct buf *out, const struct option *o, unsigned command)
{
    bool number = o->type == OPT_INT || o->type == OPT_SIZE || o->type == OPT_DURATION;

    buf_add_str(out, o->help);
    if (number) {
        buf_add_byte(out, ' ');
        option_range(o, out);
        buf_add_byte(out, '.');
    }
    if (o->required & command)
        buf_add_str(out, " Required.");
    else if ((o->def || o->def_shown) && !o->flag_only && o->type != OPT_BOOL) {
        buf_add_str(out, " Default: ");
        add_default(out, o);
        buf_add_byte(out, '.');
    } else if (o->type == OPT_BOOL && o->def_shown) {
        buf_add_str(out, " Default: ");
        add_default(out, o);
        buf_add_byte(out, '.');
    }
}

/* Options of a section, for a set of commands; flag_only ones belong to no section ("" finds them).
 */
static bool in_section(const struct option *o, const char *section)
{
    size_t n = strlen(section);

    return n ? !strncmp(o->name, section, n) && o->name[n] == '.' : strchr(o->name, '.') == NULL;
}

static bool section_has(const char *section, unsigned command_set)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (in_section(&config_options[i], section) && config_options[i].commands & command_set)
            return true;
    }
    return false;
}

/* ---- --help ---------------------------------------------------------------------------------- */

static void add_help_option(struct buf *out, const struct option *o, unsigned command)
{
    struct buf text;

    buf_init(&text, PAGE_MAX_BYTES);
    buf_add_str(out, "  ");
    add_flag(out, o);
    buf_add_str(out, "\n        ");
    add_meaning(&text, o, command);
    add_wrapped(out, buf_cstr(&text), 8, 8);
    if (!o->flag_only) {
        buf_printf(out, "        [%s", o->name);
        if (o->param)
            buf_printf(out, "; --context_param %s", o->param);
        buf_add_str(out, "]\n");
    }
    buf_fini(&text);
}

static void add_help_section(struct buf *out, const char *section, const char *title, unsigned id)
{
    if (!section_has(section, id))
        return;
    buf_printf(out, "\n%s\n", title);
    for (size_t i = 0; i < config_option_count; i++) {
        if (in_section(&config_options[i], section) && config_options[i].commands & id)
            add_help_option(out, &config_options[i], id);
    }
}

static const char layers_text[] =
    "Later wins: defaults, the settings file, variables, --context_param, flags. An option "
    "--block-size is "
    "the variable CASS2ES_BLOCK_SIZE; in [ ] stands its place in the file: sync_api.block_size is "
    "block_size in the section sync_api. --name value and --name=value are the same. Sizes: bytes, "
    "kB, "
    "MB, GB, KiB, MiB, GiB. Durations: 500ms, 5s, 10m, 2h, 30d. Lists: by commas, or said again.";

static bool has_params(unsigned id)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].param && config_options[i].commands & id)
            return true;
    }
    return false;
}

void help_command(const struct command *command, struct buf *out)
{
    if (command == &command_help) {
        help_overview(out);
        return;
    }
    buf_printf(out, "usage: cass2es %s%s%s\n\n", command->name, *command->usage ? " " : "",
               command->usage);
    add_wrapped(out, command->summary, 0, 0);
    if (command->details) {
        buf_add_byte(out, '\n');
        add_wrapped(out, command->details, 0, 0);
    }
    if (!command->id)
        return;
    add_help_section(out, "", "This command", command->id);
    for (const struct option_section *s = config_sections; s->name; s++)
        add_help_section(out, s->name, s->title, command->id);
    buf_add_str(out,
                "\nSettings\n"
                "  --config FILE\n"
                "        Settings file (YAML); \"\" for none. Default: /etc/cass2es/cass2es.yaml, "
                "if there.\n        [CASS2ES_CONFIG]\n");
    if (has_params(command->id))
        buf_add_str(out,
                    "  --context_param NAME=VALUE\n"
                    "        A setting by the name that Sunbird's job has for it; said again, the "
                    "last wins.\n");
    buf_add_str(out, "  --help\n        This page.\n\n");
    add_wrapped(out, layers_text, 0, 0);
    buf_add_str(out, "\nExit codes\n");
    for (const struct exit_text *e = exit_texts; e->text; e++)
        buf_printf(out, "  %3d  %s\n", e->code, e->text);
}

static const char about[] =
    "cass2es brings Elasticsearch up to date with Cassandra: it reads tables or lists of ids, has "
    "them "
    "synced by a Sync API, writes rows as JSON lines, or is the Sync API itself.";

void help_overview(struct buf *out)
{
    buf_add_str(out, "usage: cass2es COMMAND [OPTION...]\n\n");
    add_wrapped(out, about, 0, 0);
    buf_add_byte(out, '\n');
    for (const struct command *const *c = commands; *c; c++) {
        if (!(*c)->hidden)
            buf_printf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
    }
    buf_add_str(out, "\ncass2es COMMAND --help tells all of a command.\n");
}

static const struct command *find(const char *name, struct err *err)
{
    for (const struct command *const *c = commands; *c; c++) {
        if (!strcmp((*c)->name, name))
            return *c;
    }
    err_set(err, ERR_USER, "unknown command %s; see cass2es --help", name);
    return NULL;
}

static bool help_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    struct buf out;
    const struct command *command =
        config->operands[0] ? find(config->operands[0], err) : &command_help;

    (void)ctx;
    (void)exit_code;
    if (!command)
        return false;
    buf_init(&out, PAGE_MAX_BYTES);
    help_command(command, &out);
    fwrite(out.p, 1, out.len, stdout);
    buf_fini(&out);
    return true;
}

const struct command command_help = {
    .name = "help",
    .summary = "Show this page, or a command's",
    .usage = "[COMMAND]",
    .max_operands = 1,
    .run = help_run,
};

/* ---- man page (scdoc) ------------------------------------------------------------------------ */

static void add_scdoc(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("_*\\#`<>[]|.~", *text))
            buf_add_byte(out, '\\');
        buf_add_byte(out, (uint8_t)*text);
    }
}

static void add_man_option(struct buf *out, const struct option *o)
{
    struct buf text;

    buf_init(&text, PAGE_MAX_BYTES);
    add_flag(&text, o);
    const char *flag = buf_cstr(&text);
    const char *blank = strchr(flag, ' ');
    AUTO_STR char *name = xstrndup(flag, blank ? (size_t)(blank - flag) : strlen(flag));
    buf_add_byte(out, '*');
    add_scdoc(out, name);
    buf_add_byte(out, '*');
    if (blank) {
        buf_add_str(out, " _");
        add_scdoc(out, blank + 1);
        buf_add_byte(out, '_');
    }
    buf_add_str(out, "\n\t");
    buf_reset(&text);
    add_meaning(&text, o, 0);
    add_scdoc(out, buf_cstr(&text));
    buf_add_str(out, "\n\n");
    if (!o->flag_only) {
        buf_add_str(out, "\tFile: ");
        add_scdoc(out, o->name);
        if (o->param) {
            buf_add_str(out, "; context parameter: ");
            add_scdoc(out, o->param);
        }
        buf_add_str(out, "\n\n");
    }
    buf_fini(&text);
}

/* Indented below a command; an empty line begins a new one. */
static void add_man_paragraphs(struct buf *out, const char *text)
{
    for (const char *end; *text; text = end) {
        end = strstr(text, "\n\n");
        if (!end)
            end = text + strlen(text);
        AUTO_STR char *one = xstrndup(text, (size_t)(end - text));
        for (char *nl = one; (nl = strchr(nl, '\n'));)
            *nl = ' ';
        buf_add_byte(out, '\t');
        add_scdoc(out, one);
        buf_add_str(out, "\n\n");
        end += strspn(end, "\n");
    }
}

static void print_man(struct buf *out)
{
    buf_add_str(
        out, "cass2es(1)\n\n# NAME\n\ncass2es - bring Elasticsearch up to date with Cassandra\n\n"
             "# SYNOPSIS\n\n*cass2es* _COMMAND_ [OPTION...]\n\n# DESCRIPTION\n\n");
    add_scdoc(out, about);
    buf_add_str(out, "\n\n# COMMANDS\n\n");
    for (const struct command *const *c = commands; *c; c++) {
        if ((*c)->hidden)
            continue;
        buf_printf(out, "*%s* ", (*c)->name);
        add_scdoc(out, (*c)->usage);
        buf_add_str(out, "\n\t");
        add_scdoc(out, (*c)->summary);
        buf_add_str(out, ".\n\n");
        if ((*c)->details) {
            add_man_paragraphs(out, (*c)->details);
        }
    }
    buf_add_str(out, "# OPTIONS\n\n");
    add_scdoc(out, layers_text);
    buf_add_str(
        out, " *cass2es COMMAND --help* shows which options a command has.\n\n"
             "*--config* _FILE_\n\tSettings file (YAML).\n\n*--context\\_param* _NAME=VALUE_\n\tA "
             "setting by the name that Sunbird's job has for it.\n\n");
    for (size_t i = 0; i < config_option_count; i++)
        add_man_option(out, &config_options[i]);
    buf_add_str(out, "# EXIT STATUS\n\n");
    for (const struct exit_text *e = exit_texts; e->text; e++) {
        buf_printf(out, "*%d*\n\t", e->code);
        add_scdoc(out, e->text);
        buf_add_str(out, "\n\n");
    }
    buf_add_str(
        out, "# FILES\n\n_/etc/cass2es/cass2es.yaml_\n\tSettings, unless *--config* names another "
             "file.\n\n_~/.local/state/cass2es/journal.db_\n\tThe journal: runs, their progress "
             "and their failures.\n\n# ENVIRONMENT\n\n"
             "Each option is a variable, too: *CASS2ES\\_* and its name in capitals, with "
             "\\_ for -. Proxy variables are honoured for HTTP.\n");
}

/* ---- doc/reference --------------------------------------------------------------------------- */

static void add_cell(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            buf_add_byte(out, '\\');
        buf_add_byte(out, (uint8_t)*text);
    }
}

static void add_commands_of(struct buf *out, const struct option *o)
{
    const char *comma = "";

    for (const struct command *const *c = commands; *c; c++) {
        if ((*c)->id & o->commands && !(*c)->hidden) {
            buf_printf(out, "%s%s", comma, (*c)->name);
            comma = ", ";
        }
    }
}

static void add_option_row(struct buf *out, const struct option *o)
{
    struct buf text;
    char env[OPTION_NAME_BYTES];

    buf_init(&text, PAGE_MAX_BYTES);
    add_flag(&text, o);
    buf_add_str(out, "| `");
    add_cell(out, buf_cstr(&text));
    buf_add_str(out, "` | ");
    if (!o->flag_only) {
        option_env(o, env);
        buf_printf(out, "`%s`<br>`%s`", o->name, env);
        if (o->param)
            buf_printf(out, "<br>`%s`", o->param);
    }
    buf_add_str(out, " | ");
    buf_reset(&text);
    add_meaning(&text, o, o->required);
    add_cell(out, buf_cstr(&text));
    buf_add_str(out, " | ");
    add_commands_of(out, o);
    buf_add_str(out, " |\n");
    buf_fini(&text);
}

static void print_options(struct buf *out)
{
    buf_add_str(out, "# Options\n\nPrinted by the program. ");
    add_wrapped(out, layers_text, 0, 24);
    buf_add_str(out,
                "\nA secret is better given by file or variable than on the command line; there it "
                "is overwritten as soon as it is read,\nbut until then others on the machine may "
                "see it.\n");
    for (const struct option_section *s = config_sections; s->name; s++) {
        buf_printf(out,
                   "\n## %s\n\n| flag | file, variable, context parameter | meaning | commands |\n"
                   "|---|---|---|---|\n",
                   s->title);
        for (size_t i = 0; i < config_option_count; i++) {
            if (in_section(&config_options[i], s->name))
                add_option_row(out, &config_options[i]);
        }
    }
    buf_add_str(
        out, "\n## Not in the file\n\n| flag | variable | meaning | commands |\n|---|---|---|---|\n"
             "| `--config FILE` | `CASS2ES_CONFIG` | The settings file; \"\" for none. Default: "
             "/etc/cass2es/cass2es.yaml, if there. | all |\n"
             "| `--context_param NAME=VALUE` | | A setting by the name that Sunbird's job has for "
             "it. | sync, serve, check |\n");
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].flag_only)
            add_option_row(out, &config_options[i]);
    }
}

static void print_commands(struct buf *out)
{
    buf_add_str(out, "# Commands\n\nPrinted by the program.\n");
    for (const struct command *const *c = commands; *c; c++) {
        if ((*c)->hidden)
            continue;
        buf_printf(out, "\n## %s\n\n    cass2es %s%s%s\n\n", (*c)->name, (*c)->name,
                   *(*c)->usage ? " " : "", (*c)->usage);
        buf_add_str(out, (*c)->summary);
        buf_add_str(out, ".\n");
        if ((*c)->details) {
            buf_add_byte(out, '\n');
            add_wrapped(out, (*c)->details, 0, 0);
        }
    }
    buf_add_str(out, "\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (const struct exit_text *e = exit_texts; e->text; e++) {
        buf_printf(out, "| %d | ", e->code);
        add_cell(out, e->text);
        buf_add_str(out, " |\n");
    }
}

/* ---- bash completion ------------------------------------------------------------------------- */

static void add_completion_flags(struct buf *out, unsigned id)
{
    char flag[OPTION_NAME_BYTES];

    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        if (!(o->commands & id))
            continue;
        option_flag(o, flag);
        buf_printf(out, " --%s", flag);
        if (o->type == OPT_BOOL && !o->flag_only)
            buf_printf(out, " --no-%s", flag);
    }
    buf_add_str(out, " --config --help");
    if (has_params(id))
        buf_add_str(out, " --context_param");
}

static void add_completion_values(struct buf *out)
{
    char flag[OPTION_NAME_BYTES];

    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];
        bool file = o->value && (!strncmp(o->value, "FILE", 4) || !strcmp(o->value, "DIR"));

        option_flag(o, flag);
        if (o->type == OPT_ENUM) {
            buf_printf(out, "    --%s) words=\"", flag);
            for (size_t n = 0; o->choices[n]; n++)
                buf_printf(out, "%s%s", n ? " " : "", o->choices[n]);
            buf_add_str(out, "\" ;;\n");
        } else if (file) {
            buf_printf(out,
                       "    --%s) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n",
                       flag);
        } else if (o->type != OPT_BOOL) {
            buf_printf(out, "    --%s) return ;;\n", flag);
        }
    }
}

static void print_completion(struct buf *out)
{
    buf_add_str(
        out,
        "# bash completion for cass2es; printed by the program.\n_cass2es() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=\"\"\n"
        "    case ${COMP_WORDS[1]} in\n");
    for (const struct command *const *c = commands; *c; c++) {
        if ((*c)->hidden || !(*c)->id)
            continue;
        buf_printf(out, "    %s) words=\"", (*c)->name);
        if ((*c)->id & (FOR_RUNS | FOR_FAILURES))
            buf_add_str(out, "list show");
        add_completion_flags(out, (*c)->id);
        buf_add_str(out, "\" ;;\n");
    }
    buf_add_str(out, "    esac\n    [ \"$COMP_CWORD\" -gt 1 ] || words=\"--help --version");
    for (const struct command *const *c = commands; *c; c++) {
        if (!(*c)->hidden)
            buf_printf(out, " %s", (*c)->name);
    }
    buf_add_str(out, "\"\n    case $before in\n"
                     "    --config) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n"
                     "    --context_param) compopt -o nospace; words=\"");
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].param)
            buf_printf(out, "%s= ", config_options[i].param);
    }
    buf_add_str(out, "\" ;;\n");
    add_completion_values(out);
    buf_add_str(out,
                "    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n}\n"
                "complete -F _cass2es cass2es\n");
}

/* ---- all of it into a folder ----------------------------------------------------------------- */

static const struct {
    const char *folder;
    const char *file;
    void (*print)(struct buf *out);
} pages[] = {
    {"reference", "options.md", print_options},
    {"reference", "commands.md", print_commands},
    {"man", "cass2es.1.scd", print_man},
    {"completion", "cass2es.bash", print_completion},
};

static bool write_page(const char *dir, size_t no, struct err *err)
{
    struct buf out;
    AUTO_STR char *folder = xsprintf("%s/%s", dir, pages[no].folder);
    AUTO_STR char *path = xsprintf("%s/%s", folder, pages[no].file);

    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_SYSTEM, "%s: %s", folder, strerror(errno));
    FILE *file = fopen(path, "we");
    if (!file)
        return err_set(err, ERR_SYSTEM, "%s: %s", path, strerror(errno));
    buf_init(&out, PAGE_MAX_BYTES);
    pages[no].print(&out);
    ensure(!out.full);
    bool ok = fwrite(out.p, 1, out.len, file) == out.len;
    ok = fclose(file) == 0 && ok;
    buf_fini(&out);
    return ok || err_set(err, ERR_SYSTEM, "%s: %s", path, strerror(errno));
}

static bool reference_run(const struct config *config, struct context *ctx, int *exit_code,
                          struct err *err)
{
    (void)ctx;
    (void)exit_code;
    if (!config->operands[0])
        return err_set(err, ERR_USER, "a folder is expected");
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (!write_page(config->operands[0], i, err))
            return false;
    }
    return true;
}

const struct command command_reference = {
    .name = "reference",
    .summary = "Write reference, man page and completion into the folders of DIR",
    .usage = "DIR",
    .max_operands = 1,
    .hidden = true,
    .run = reference_run,
};
