/* SPDX-License-Identifier: Apache-2.0 */
/* asyncapi: the events as an AsyncAPI 3.0 document, for generators of clients and for catalogues.
 *
 * Two channels: the lines of GET /v1/events, and the CloudEvents of export and handlers.  The
 * schema of a type has the id that the dataschema of its CloudEvents names.  Pure.  Threads: any.
 */
#ifndef FB_EVENT_ASYNCAPI_H
#define FB_EVENT_ASYNCAPI_H
#include "base/buf.h"

/* Appends one JSON document, indented. */
void asyncapi_put(struct buf *out);
#endif
