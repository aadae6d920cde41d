/* SPDX-License-Identifier: Apache-2.0 */
#include "event/ingest.h"

static const char *const via_names[] = {
#define VIA(name, text) text,
#include "event/ingest.def"
#undef VIA
};
static const char *const refused_names[] = {
#define REFUSED(name, text) text,
#include "event/ingest.def"
#undef REFUSED
};

const char *ingest_state_name(enum ingest_state state)
{
    static const char *const names[] = {"off", "open", "failing"};
    return names[state];
}

const char *ingest_via_name(enum ingest_via via)
{
    return via_names[via];
}

const char *ingest_refused_name(enum ingest_refused refused)
{
    return refused_names[refused];
}
