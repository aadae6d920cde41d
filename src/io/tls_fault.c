/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's reasons as ours. */
#include "io/tls_int.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>

static enum tls_fault fault_of_reason(int reason);

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
