/*
 * The settings file: any bytes are taken or refused with a place; what is taken shows no secret and
 * is well-formed when shown.
 */
#include <string.h>

#include "base/json.h"
#include "config/value.h"
#include "config/yaml.h"

/* Not ensure(): libFuzzer keeps the input of what aborts. */
#define must(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = config_new();
    struct err err = {0};

    if (yaml_settings(c, "c.yaml", slice_of(data, size), &err)) {
        struct arena mem;
        struct buf out;

        buf_init(&out, 64 << 20);
        arena_init(&mem, 256 << 20);
        config_show_all(c, true, &out);
        must(json_parse(buf_slice(&out), &mem, &err) != NULL);
        buf_reset(&out);
        config_params_json(c, FOR_ALL, &out);
        must(json_parse(buf_slice(&out), &mem, &err) != NULL);
        buf_fini(&out);
        arena_fini(&mem);
    } else {
        must(err.kind == ERR_USER);
        must(!strncmp(err.text, "c.yaml:", 7));
    }
    config_free(c);
    return 0;
}
