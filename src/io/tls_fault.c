/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's reasons as ours. */
#include "io/tls_int.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>

/* RFC 8446 section 6.2: what a server says that does not like the client's certificate. */
enum {
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_BAD_CERTIFICATE = 42,
    ALERT_UNSUPPORTED_CERTIFICATE = 43,
    ALERT_CERTIFICATE_REVOKED = 44,
    ALERT_CERTIFICATE_EXPIRED = 45,
    ALERT_CERTIFICATE_UNKNOWN = 46,
    ALERT_UNKNOWN_CA = 48,
    ALERT_ACCESS_DENIED = 49,
    ALERT_CERTIFICATE_REQUIRED = 116
};

static enum tls_fault fault_of_reason(int reason);
static bool is_about_our_cert(SSL *ssl, unsigned alert);

const char *tls_fault_name(enum tls_fault fault)
{
    static const char *const names[TLS_FAULT_COUNT] = {"none",    "not_tls", "version", "cipher",
                                                       "cert",    "alpn",    "alert",   "closed",
                                                       "timeout", "busy",    "other"};
    return fault < TLS_FAULT_COUNT ? names[fault] : "other";
}

void tls_fault_set(struct tls_conn *c, int ssl_error)
{
    unsigned long code = ERR_peek_last_error();
    int reason = ERR_GET_REASON(code);
    long verified = SSL_get_verify_result(c->ssl);
    c->fault = TLS_FAULT_CLOSED;
    snprintf(c->text, sizeof c->text, "the peer closed the connection");
    if (ssl_error == SSL_ERROR_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL &&
        reason != SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        c->fault = (uint8_t)fault_of_reason(reason);
        c->is_plain_http = reason == SSL_R_HTTP_REQUEST;
        c->alert =
            (uint8_t)(c->fault == TLS_FAULT_ALERT ? (unsigned)reason - SSL_AD_REASON_OFFSET : 0u);
        c->is_cert_refused = c->client && is_about_our_cert(c->ssl, c->alert);
        const char *text = ERR_reason_error_string(code);
        if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
            text = X509_verify_cert_error_string(verified);
        snprintf(c->text, sizeof c->text, "%s", text ? text : "unknown");
    } else if (ssl_error == SSL_ERROR_SSL && reason != SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        c->fault = TLS_FAULT_OTHER;
        const char *text = ERR_reason_error_string(code);
        snprintf(c->text, sizeof c->text, "%s", text ? text : "unknown");
    }
    ERR_clear_error();
}

unsigned tls_alert(const struct tls_conn *c)
{
    return c->alert;
}

bool tls_is_cert_refused(const struct tls_conn *c)
{
    return c->is_cert_refused;
}

static bool is_about_our_cert(SSL *ssl, unsigned alert)
{
    const uint8_t *types;
    switch (alert) {
    case ALERT_BAD_CERTIFICATE:
    case ALERT_UNSUPPORTED_CERTIFICATE:
    case ALERT_CERTIFICATE_REVOKED:
    case ALERT_CERTIFICATE_EXPIRED:
    case ALERT_CERTIFICATE_UNKNOWN:
    case ALERT_UNKNOWN_CA:
    case ALERT_ACCESS_DENIED:
    case ALERT_CERTIFICATE_REQUIRED:
        return true;
    case ALERT_HANDSHAKE_FAILURE: /* TLS 1.2 has no word of its own for a missing one */
        return SSL_version(ssl) == TLS1_2_VERSION && !SSL_get_certificate(ssl) &&
               SSL_get0_certificate_types(ssl, &types) > 0;
    default:
        return false;
    }
}

const char *tls_why(char *out, size_t room)
{
    unsigned long code = ERR_peek_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    snprintf(out, room, "%s", text ? text : "unknown");
    ERR_clear_error();
    return out;
}

static enum tls_fault fault_of_reason(int reason)
{
    if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
        return TLS_FAULT_ALERT;
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_UNEXPECTED_RECORD:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_LENGTH_MISMATCH:
    case SSL_R_LENGTH_TOO_SHORT:
        return TLS_FAULT_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return TLS_FAULT_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        return TLS_FAULT_CIPHER;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_FAULT_CERT;
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_FAULT_ALPN;
    default:
        return TLS_FAULT_OTHER;
    }
}
