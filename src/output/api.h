/* SPDX-License-Identifier: Apache-2.0 */
/* api: the routing table of the admin server, one row per method and path (api.def).
 *
 * From a row come the dispatch, GET /v1/openapi.json, the reference and the test that calls them
 * all. Threads: any (tables). */
#ifndef FB_OUTPUT_API_H
#define FB_OUTPUT_API_H
#include "base/json.h"

struct api_call;
enum api_access {
    API_OPEN,  /* no token */
    API_READ,  /* token or session */
    API_WRITE,  /* the same, and no page of another origin */
    API_INGEST, /* as write; a token that may only ingest does too */
};
struct api_row {
    const char *method, *path; /* "/v1/knobs/{knob}/{target}/pin" */
    const char *name;          /* operationId */
    enum api_access access;
    const char *query;  /* names of api_query.def, separated by commas */
    const char *body;   /* schema of the request body, "" none */
    const char *answer; /* schema of the answer, or a media type */
    const char *what;
    void (*run)(struct api_call *c);
};
size_t api_row_count(void);
const struct api_row *api_row_at(size_t i);
/* The row for a request; NULL when no path fits; *is_path_known when only the method is wrong.
 * params[0..1] get the parts of the path that stand for {..}, still percent-encoded. */
const struct api_row *api_find(struct span method, struct span path, struct span params[2],
                               bool *is_path_known);
/* Percent-decodes; with <is_query> '+' is a blank.  False when malformed or too long. */
FB_MUST_USE
bool api_decode(struct span in, bool is_query, char *out, size_t cap);
/* The whole OpenAPI 3.1 document. */
void api_openapi(struct json *j);
/* A JSON schema of components.schemas, or "" when unknown. */
struct span api_schema(const char *name);
#endif
