/* SPDX-License-Identifier: Apache-2.0 */
/* value: the cells of a row without SQL, for export.  Pure.  Threads: any. */
#ifndef FB_QUERY_VALUE_H
#define FB_QUERY_VALUE_H
#include "query/column.h"
#include "query/query.h"

#define VALUE_ROOM 48

/* What column <c> shows of <event>.  The text of the value is in <room>, in the event or constant;
 * PERSONAL fields are "-" with <is_redacted>.  A column of `events` (type, json) has none. */
struct query_value column_value(const struct column *c, const struct scan_event *event,
                                const struct names *names, bool is_redacted, char room[VALUE_ROOM]);
#endif
