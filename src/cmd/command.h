/*
 * cmd/command.h - what every sub-command is: a struct at the top of its file, listed in command.c.
 *
 * main.c finds the command, loads its configuration, runs it, and turns what came back into the
 * exit code (command_exit_code(), the only place). Threads: run() is called on the main thread.
 */
#pragma once
#include <stdbool.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "config/options.h"
#include "sink/elastic.h"

/* Exit codes; a run's verdict is one of them. */
enum exit_code {
    EXIT_DONE = 0,         /* all done, or the dry run is fine */
    EXIT_SOME_FAILED = 1,  /* finished, some documents or calls failed */
    EXIT_USAGE = 2,        /* command line or configuration */
    EXIT_REACH = 3,        /* could not reach or log in; retry budget spent; resumable */
    EXIT_MACHINE = 4,      /* disk, memory, descriptors; resumable */
    EXIT_DEFECT = 5,       /* the program's own books do not balance */
    EXIT_DRIFT = 6,        /* verify found differences */
    EXIT_BRAKE = 7,        /* a safety brake refused to go on */
    EXIT_INTERRUPTED = 130 /* asked to stop; resumable */
};

/* Lives in main for the whole process. */
struct context {
    struct clock clock;
    struct cancel cancel; /* level 1 at the first SIGINT or SIGTERM, 2 at the second */
    int argc;             /* the command line as given, secret values overwritten, to show how to */
    char **argv;          /* go on; argv[0] is the program */
    struct elastic_shared elastic;
};

struct command {
    const char *name;
    const char *summary; /* one line */
    const char *usage;   /* what follows the name: "[OPTION...] [KEYSPACE.TABLE]" */
    const char *details; /* paragraphs for --help and the man page; NULL: none */
    unsigned id;         /* FOR_* of config/options.h; 0: takes no configuration */
    bool takes_table;    /* the first operand is KEYSPACE.TABLE: it becomes keyspace and table */
    int max_operands;    /* besides that */
    bool hidden;         /* not in the list of commands */
    bool signals;        /* SIGINT and SIGTERM fire ctx->cancel; else they end the program */
    /*
     * True: `*exit_code` is the verdict (it comes in as EXIT_DONE). False: err says why, and its
     * kind makes the exit code.
     */
    bool (*run)(const struct config *config, struct context *ctx, int *exit_code, struct err *err);
};

/* In the order of `cass2es help`; ends with NULL. */
extern const struct command *const commands[];

/* The text of `cass2es COMMAND --help`, and of `cass2es help`. */
void help_command(const struct command *command, struct buf *out);
void help_overview(struct buf *out);
/* Loads the configuration from what follows the name in argv (argv[first] is the first argument),
 * runs the command, says what went wrong; yields the exit code. */
int command_start(const struct command *command, int argc, char **argv, int first);
/* RETRY and REACH 3, USER and REJECT 2, SYSTEM 4, CANCEL 130; NONE is a defect: 5. */
int command_exit_code(enum err_kind kind);
/* Of a run: err's code, when there is one; else 5 where its books do not balance, 1 where something
 * failed, 0. */
int command_verdict(const struct err *err, bool conserved, bool failed);

struct exit_text {
    int code;
    const char *text;
};
extern const struct exit_text exit_texts[]; /* ends with a NULL text */

extern const struct command command_sync;     /* cmd/sync.c */
extern const struct command command_serve;    /* cmd/serve.c */
extern const struct command command_failures; /* cmd/runs.c */
extern const struct command command_runs;
extern const struct command command_check;
extern const struct command command_init;
extern const struct command command_help;
extern const struct command command_version;
extern const struct command command_reference;
