/*
 * cql/auth.h - PLAIN: user name and password, as the servers' authenticators want them.
 *
 * Pure; the functions may be called from several threads. Source: native_protocol_v5.spec, 4.1.2;
 * DSE wants the mechanism's name first.
 */
#pragma once
#include "cql/cql.h"

struct auth_plain {
    const char *username; /* NULL or "": none */
    const char *password;
};

/* A cql_auth over `plain`, which must outlive it. */
struct cql_auth auth_plain(struct auth_plain *plain);
