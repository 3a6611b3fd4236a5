/*
 * config/yaml.h - the settings file: sections with names with values, each with its place.
 *
 * Threads: the loading one.
 */
#pragma once
#include "config/options.h"

enum { CONFIG_FILE_MAX_BYTES = 1 << 20 };

/*
 * Stores every setting of the text (layer FROM_FILE).
 *   name  of the file, for messages
 * err: ERR_USER, "NAME:LINE:COLUMN: ..."; an unknown name gets the nearest.
 */
bool yaml_settings(struct config *c, const char *name, struct slice text, struct err *err);
