#include "cmd/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "config/load.h"

const struct command *const commands[] = {
    &command_sync,     &command_serve, &command_init,    &command_check,     &command_runs,
    &command_failures, &command_help,  &command_version, &command_reference, NULL,
};

const struct exit_text exit_texts[] = {
    {EXIT_DONE, "All done, or the dry run is fine."},
    {EXIT_SOME_FAILED, "Finished, but some documents or calls failed: cass2es failures list."},
    {EXIT_USAGE,
     "The command line or the configuration is wrong, or another process does the same."},
    {EXIT_REACH, "Could not reach a server or log in, or the retry budget is spent. Resumable."},
    {EXIT_MACHINE, "This machine: disk, memory, descriptors. Resumable."},
    {EXIT_DEFECT, "A defect in the program: its own books do not balance."},
    {EXIT_DRIFT, "Differences were found (for verify, which is yet to come)."},
    {EXIT_BRAKE, "Refused by a safety brake."},
    {EXIT_INTERRUPTED, "Interrupted. Resumable: the same command again goes on."},
    {0, NULL},
};

int command_exit_code(enum err_kind kind)
{
    switch (kind) {
    case ERR_RETRY:
    case ERR_REACH:
        return EXIT_REACH;
    case ERR_USER:
    case ERR_REJECT:
        return EXIT_USAGE;
    case ERR_SYSTEM:
        return EXIT_MACHINE;
    case ERR_CANCEL:
        return EXIT_INTERRUPTED;
    case ERR_NONE:
        break;
    }
    return EXIT_DEFECT;
}

int command_verdict(const struct err *err, bool conserved, bool failed)
{
    if (err->kind != ERR_NONE)
        return command_exit_code(err->kind);
    return !conserved ? EXIT_DEFECT : failed ? EXIT_SOME_FAILED : EXIT_DONE;
}

/* ---- signals --------------------------------------------------------------------------------- */

static struct cancel *signal_cancel; /* the context's; a handler can be given nothing else */
static bool on_terminal;             /* where ^C stands on the line already */

/* The text's first byte ends a line that a terminal may be in the middle of. */
static void say_from_handler(const char *text)
{
    text += on_terminal ? 0 : 1;
    ssize_t n = write(STDERR_FILENO, text, strlen(text));

    (void)n;
}

static void on_signal(int number)
{
    int saved = errno;

    (void)number;
    if (cancel_level(signal_cancel) == 0) {
        cancel_fire(signal_cancel, 1);
        say_from_handler(
            "\ncass2es: stopping when what is in flight has ended; once more stops now\n");
    } else {
        cancel_fire(signal_cancel, 2);
        say_from_handler("\ncass2es: stopping now\n");
    }
    errno = saved;
}

static void catch_signals(struct cancel *cancel)
{
    struct sigaction on = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction hangup;

    signal_cancel = cancel;
    on_terminal = isatty(STDERR_FILENO) == 1;
    sigemptyset(&on.sa_mask);
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    /* The terminal went away: the same as Ctrl-C, unless nohup said to stay. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &on, NULL);
    sigaction(SIGPIPE, &ignore,
              NULL); /* a lost peer is an error of that call, not of the process */
}

/* ---- a command's life ------------------------------------------------------------------------ */

/* The folder of the program, by its real path. */
static const char *program_dir(char *room, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", room, size - 1);

    if (n <= 0)
        return NULL;
    room[n] = '\0';
    char *slash = strrchr(room, '/');
    if (slash)
        *slash = '\0';
    return room;
}

static bool wants_help(int argc, char **argv, int first)
{
    for (int i = first; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    }
    return false;
}

/* What failed to be written earlier has left only its mark, not its reason. */
static bool flush_stdout(struct err *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    return err_set(err, ERR_SYSTEM, "standard output: %s",
                   errno ? strerror(errno) : "could not be written");
}

static bool print_help(const struct command *command, struct err *err)
{
    struct buf text;

    buf_init(&text, 1 << 20);
    help_command(command, &text);
    fwrite(text.p, 1, text.len, stdout);
    buf_fini(&text);
    return flush_stdout(err);
}

static bool check_operands(const struct command *command, const struct config *config,
                           struct err *err)
{
    int n = 0;

    while (config->operands[n])
        n++;
    if (n > command->max_operands)
        return err_set(err, ERR_USER, "unexpected argument %s; see cass2es %s --help",
                       config->operands[command->max_operands], command->name);
    return true;
}

static bool run(const struct command *command, const struct config *config, struct context *ctx,
                int *exit_code, struct err *err)
{
    if (!cancel_init(&ctx->cancel, err))
        return false;
    if (command->signals)
        catch_signals(&ctx->cancel);
    bool ok = command->run(config, ctx, exit_code, err);
    return ok && flush_stdout(err);
}

static int say_error(const struct command *command, const struct config *config,
                     const struct err *err)
{
    if (config && config->log.format == LOG_JSON)
        LOG(LOG_ERROR, "command_failed", F_STR("command", command->name),
            F_STR("kind", err_kind_name(err->kind)), F_STR("error", err->text));
    else
        fprintf(stderr, "cass2es: %s: %s\n", command->name, err->text);
    return command_exit_code(err->kind);
}

int command_start(const struct command *command, int argc, char **argv, int first)
{
    char dir[4096];
    struct err err = {0};
    struct context ctx = {.argc = argc, .argv = argv};
    int exit_code = EXIT_DONE;
    struct config_input in = {
        .command = command->id,
        .command_name = command->name,
        .takes_table = command->takes_table,
        .argc = argc - first,
        .argv = argv + first,
        .env = command->id ? environ : NULL,
        .default_file = command->id ? CONFIG_DEFAULT_FILE : NULL,
        .program_dir = program_dir(dir, sizeof dir),
    };

    if (wants_help(argc, argv, first))
        return print_help(command, &err) ? EXIT_DONE : say_error(command, NULL, &err);
    clock_init_system(&ctx.clock);
    AUTO(config) struct config *config = config_load(&in, &err);
    if (!config)
        return say_error(command, NULL, &err);
    log_setup((enum log_level)config->log.level, (enum log_format)config->log.format);
    for (size_t i = 0; config->warnings[i]; i++)
        LOG(LOG_WARN, "unknown_variable", F_STR("text", config->warnings[i]));
    if (!check_operands(command, config, &err) || !run(command, config, &ctx, &exit_code, &err))
        return say_error(command, config, &err);
    cancel_fini(&ctx.cancel);
    return exit_code;
}
