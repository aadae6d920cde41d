/* SPDX-License-Identifier: Apache-2.0 */
#include "main/state_dir.h"

#include "base/buf.h"
#include "base/json.h"
#include "io/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_BYTES 600

static bool make_folders(const char *dir)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", dir);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static const char *in_dir(char path[PATH_BYTES], const char *dir, const char *name)
{
    snprintf(path, PATH_BYTES, "%s/%s", dir, name);
    return path;
}

/* Whole or not at all: others read these files while a foldback starts. */
static bool write_file(const char *path, const char *text, mode_t mode)
{
    char draft[PATH_BYTES + 8];
    snprintf(draft, sizeof draft, "%s.new", path);
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return false;
    size_t len = strlen(text);
    (void)fchmod(fd, mode); /* an old draft keeps its mode otherwise */
    bool is_written = write(fd, text, len) == (ssize_t)len;
    is_written &= close(fd) == 0;
    return is_written && rename(draft, path) == 0;
}

static bool random_text(char *text, size_t len, const char *alphabet)
{
    unsigned char bytes[64];
    size_t letters = strlen(alphabet); /* a power of two: no bias */
    if (len > sizeof bytes || getrandom(bytes, len, 0) != (ssize_t)len)
        return false;
    for (size_t i = 0; i < len; i++)
        text[i] = alphabet[bytes[i] % letters];
    text[len] = '\0';
    return true;
}

enum fb_code state_dir_open(const char *dir, int *lock_fd, struct fb_err *err)
{
    char path[PATH_BYTES];
    if (strlen(dir) > PATH_BYTES - 64)
        return fb_fail(err, FB_E_CONFIG, "state: the path is longer than %d bytes",
                       PATH_BYTES - 64);
    if (!make_folders(dir))
        return fb_fail(err, FB_E_IO,
                       "state: cannot make %s: %s; name another folder with `state:` or --state",
                       dir, strerror(errno));
    *lock_fd = open(in_dir(path, dir, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock_fd < 0)
        return fb_fail(
            err, FB_E_IO,
            "state: cannot write to %s: %s; name another folder with `state:` or --state", dir,
            strerror(errno));
    if (flock(*lock_fd, LOCK_EX | LOCK_NB) < 0) {
        close(*lock_fd);
        *lock_fd = -1; /* the folder is not ours: nothing in it is removed */
        return fb_fail(err, FB_E_CONFLICT,
                       "state: another foldback uses %s; stop it, or name another folder with "
                       "`state:` or --state",
                       dir);
    }
    return FB_OK;
}

void state_dir_close(const char *dir, int lock_fd)
{
    char path[PATH_BYTES];
    if (lock_fd < 0)
        return;
    unlink(in_dir(path, dir, "admin.json"));
    close(lock_fd);
}

bool state_dir_has_state(const char *dir)
{
    char path[PATH_BYTES];
    return access(in_dir(path, dir, "state.db"), F_OK) == 0;
}

uint64_t state_dir_node_id(const char *dir)
{
    char path[PATH_BYTES], text[32];
    in_dir(path, dir, "node");
    if (!textfile_line(path, text, sizeof text) || strlen(text) != 16) {
        if (!random_text(text, 16, "0123456789abcdef"))
            return 1;
        (void)write_file(path, text, 0600);
    }
    return strtoull(text, NULL, 16);
}

void state_dir_secret(const char *dir, uint64_t secret[2])
{
    char path[PATH_BYTES], text[64], half[17] = "";
    in_dir(path, dir, "secret");
    if (!textfile_line(path, text, sizeof text) || strlen(text) != 32) {
        if (!random_text(text, 32, "0123456789abcdef"))
            return; /* the gateway takes one of its own, until it ends */
        (void)write_file(path, text, 0600);
    }
    for (int i = 0; i < 2; i++) {
        memcpy(half, text + 16 * i, 16);
        secret[i] = strtoull(half, NULL, 16);
    }
}

static enum fb_code make_token(const char *whose, const char *path, struct fb_err *err)
{
    char token[64];
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size >= 16)
        return FB_OK;
    if (!random_text(token, 40,
                     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ||
        !write_file(path, token, 0600))
        return fb_fail(err, FB_E_IO, "%s: cannot write %s: %s", whose, path, strerror(errno));
    return FB_OK;
}

enum fb_code state_dir_token(const char *dir, const char *configured, char *path, size_t size,
                             struct fb_err *err)
{
    char token[64];
    if (configured[0]) {
        snprintf(path, size, "%s", configured);
        if (!textfile_line(path, token, sizeof token))
            return fb_fail(err, FB_E_CONFIG, "admin.token_file: cannot read %s: %s", path,
                           strerror(errno));
        return FB_OK;
    }
    snprintf(path, size, "%s/admin.token", dir);
    return make_token("admin", path, err);
}
void state_dir_ingest_path(const char *dir, const char *configured, char *path, size_t size)
{
    if (configured[0])
        snprintf(path, size, "%s", configured);
    else
        snprintf(path, size, "%s/ingest.token", dir);
}

enum fb_code state_dir_ingest_token(const char *dir, const char *configured, struct fb_err *err)
{
    char path[PATH_BYTES];
    if (configured[0])
        return FB_OK;
    state_dir_ingest_path(dir, configured, path, sizeof path);
    return make_token("ingest", path, err);
}

void state_dir_announce(const char *dir, const char *address, const char *token_file)
{
    char path[PATH_BYTES];
    struct buf text;
    struct json j;
    /* absolute: the CLI may be called from anywhere */
    char *absolute = realpath(token_file, NULL);
    buf_init(&text, 8192);
    json_init(&j, &text);
    json_object_begin(&j);
    json_key_str(&j, "address", address);
    json_key_str(&j, "token_file", absolute ? absolute : token_file);
    json_key_u64(&j, "pid", (uint64_t)getpid());
    json_object_end(&j);
    buf_putc(&text, '\n');
    (void)write_file(in_dir(path, dir, "admin.json"), buf_str(&text), 0600);
    free(absolute);
    buf_fini(&text);
}

bool state_dir_url(const char *address, const char *token_file, char *url, size_t size)
{
    char token[160];
    if (!textfile_line(token_file, token, sizeof token))
        return false;
    snprintf(url, size, "http://%s/?token=%s", address, token);
    return true;
}

bool state_dir_upgrade_request(const char *dir, char *id, size_t id_size, char *binary,
                               size_t binary_size)
{
    char path[PATH_BYTES];
    FILE *f = fopen(in_dir(path, dir, "upgrade.request"), "re");
    if (!f)
        return false;
    bool is_whole = fgets(id, (int)id_size, f) && fgets(binary, (int)binary_size, f);
    fclose(f);
    unlink(path);
    id[is_whole ? strcspn(id, "\r\n") : 0] = '\0';
    binary[is_whole ? strcspn(binary, "\r\n") : 0] = '\0';
    return is_whole;
}

void state_dir_upgrade_answer(const char *dir, const char *id, const char *state, const char *text)
{
    char path[PATH_BYTES];
    struct buf out;
    struct json j;
    buf_init(&out, 8192);
    json_init(&j, &out);
    json_object_begin(&j);
    json_key_str(&j, "id", id);
    json_key_str(&j, "state", state);
    json_key_str(&j, "text", text);
    json_object_end(&j);
    buf_putc(&out, '\n');
    (void)write_file(in_dir(path, dir, "upgrade.answer"), buf_str(&out), 0600);
    buf_fini(&out);
}

void state_dir_notify_systemd(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path)
        return;
    strcpy(to.sun_path, path);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (void *)&to,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}
