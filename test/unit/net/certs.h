/* Makes an authority and certificates in a folder, with OpenSSL. For tests. */
#pragma once
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

struct authority {
    EVP_PKEY *key;
    X509 *cert;
};

static void write_pem(const char *folder, const char *name, X509 *cert, EVP_PKEY *key)
{
    char path[300];

    snprintf(path, sizeof path, "%s/%s.pem", folder, name);
    FILE *f = fopen(path, "w");
    PEM_write_X509(f, cert);
    fclose(f);
    snprintf(path, sizeof path, "%s/%s.key", folder, name);
    f = fopen(path, "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

/* by == NULL: an authority of its own. names: "DNS:a,IP:127.0.0.1", or NULL. The one called
 * "expired" is that. */
static struct authority make_cert(const char *folder, const char *name, const struct authority *by,
                                  const char *names)
{
    static long serial = 1;
    struct authority a = {EVP_EC_gen("P-256"), X509_new()};

    X509_set_version(a.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(a.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(a.cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(a.cert), strcmp(name, "expired") ? 24 * 3600 : -60);
    X509_set_pubkey(a.cert, a.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(a.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(a.cert, X509_get_subject_name(by ? by->cert : a.cert));
    add_extension(a.cert, NID_basic_constraints, by ? "CA:FALSE" : "critical,CA:TRUE");
    if (names)
        add_extension(a.cert, NID_subject_alt_name, names);
    X509_sign(a.cert, by ? by->key : a.key, EVP_sha256());
    write_pem(folder, name, a.cert, a.key);
    return a;
}

static void free_cert(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
}
