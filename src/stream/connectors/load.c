/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/load.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

/* foldback-<type>.so in one of the places; false: nowhere. */
static bool find(const char *type, char *path, size_t size)
{
    static const char *const places[] = {"/src/stream/connectors", "/../lib/foldback",
                                         "/../" FB_LIBDIR "/foldback"};
    char exe[1024] = "";
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len > 0)
        exe[len] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < FB_COUNT(places); i++) {
        snprintf(path, size, "%s%s/foldback-%s.so", exe, places[i], type);
        if (access(path, R_OK) == 0)
            return true;
    }
    snprintf(path, size, "%s/foldback-%s.so", FB_CONNECTOR_DIR, type);
    return access(path, R_OK) == 0;
}

enum fb_code connector_load(const char *type, const char *package,
                            const struct connector_type **out, struct fb_err *err)
{
    char path[1200];
    if (!find(type, path, sizeof path))
        return fb_fail(err, FB_E_NOT_FOUND,
                       "there is no foldback-%s.so beside this foldback or in %s: install the "
                       "package %s",
                       type, FB_CONNECTOR_DIR, package);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fb_fail(err, FB_E_IO,
                       "%.300s; install what it names, the package %s depends on all of it",
                       dlerror(), package);
    const struct connector_type *found = dlsym(library, CONNECTOR_SYMBOL);
    if (!found || found->abi != CONNECTOR_ABI || found->bytes != sizeof *found ||
        strcmp(found->name, type) != 0)
        return fb_fail(err, FB_E_VERSION,
                       "%s is of another version of foldback: install the same version of %s", path,
                       package);
    *out = found;
    return FB_OK;
}
