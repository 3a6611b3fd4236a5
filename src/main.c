/*
 * main.c - picks the command and runs it.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"

static int unknown_command(const char *name)
{
    const char *names[32];
    size_t n = 0;

    for (const struct command *const *c = commands; *c && n < 31; c++) {
        if (!(*c)->hidden)
            names[n++] = (*c)->name;
    }
    names[n] = NULL;
    const char *near = text_nearest(slice_str(name), names);
    fprintf(stderr, "cass2es: unknown command %s; %s%s%s\n", name, near ? "did you mean " : "see ",
            near ? near : "cass2es --help", near ? "?" : "");
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    /* Pages are written in one go at the end, so that a failure still has its reason. The C
     * library's own buffer is small, whatever size is asked for. */
    static char stdout_buffer[256 << 10];
    setvbuf(stdout, stdout_buffer, _IOFBF, sizeof stdout_buffer);
    mem_setup();

    if (argc < 2) {
        fputs("cass2es: a command is missing; see cass2es --help\n", stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        name = "version";
    for (const struct command *const *c = commands; *c; c++) {
        if (!strcmp((*c)->name, name))
            return command_start(*c, argc, argv, 2);
    }
    return unknown_command(name);
}
