/* SPDX-License-Identifier: Apache-2.0 */
#include "main/run.h"

#include "conf/conf.h"
#include "main/supervisor.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int print_report(const struct conf_report *report, const char *file, struct span text)
{
    struct buf out;
    buf_init(&out, 4 * MIB);
    conf_report_print(report, file, text, &out);
    fputs(buf_str(&out), stderr);
    buf_fini(&out);
    return 2;
}

/* The file's text once more, for the carets. */
static void read_file(const char *file, struct buf *text)
{
    FILE *f = fopen(file, "re");
    char part[4096];
    size_t n;
    if (!f)
        return;
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(text, part, n);
    fclose(f);
}

static int load_file(const char *file, struct conf **conf)
{
    struct conf_report report = {0};
    struct fb_err err = {0};
    int code = 0;
    enum fb_code got = conf_load(file, conf, &report, &err);
    if (got == FB_E_CONFIG && report.count) {
        struct buf text;
        buf_init(&text, 2 * MIB);
        read_file(file, &text);
        code = print_report(&report, file, buf_span(&text));
        buf_fini(&text);
    } else if (got != FB_OK) {
        fprintf(stderr, "foldback: %s\n", err.text);
        code = fb_error_row(got)->exit_code;
    } else if (report.count) { /* warnings */
        (void)print_report(&report, file, (struct span){NULL, 0});
    }
    conf_report_fini(&report);
    return code;
}

static int conf_of_flags(const struct cli_run_args *args, struct conf **conf)
{
    struct buf text;
    struct fb_err err = {0};
    struct conf_report report = {0};
    int code = 0;
    buf_init(&text, MIB);
    enum fb_code got =
        conf_text_for_run(args->from, args->from_count, args->to, args->to_count, &text, &err);
    if (got == FB_OK && args->admin)
        buf_printf(&text, "admin: { listen: \"%s\" }\n", args->admin);
    if (got != FB_OK) {
        fprintf(stderr, "foldback: %s\n", err.text);
        code = 2;
    } else if (conf_parse(buf_span(&text), "", conf, &report) != FB_OK) {
        code = print_report(&report, "run --to", buf_span(&text));
    }
    conf_report_fini(&report);
    buf_fini(&text);
    return code;
}

int run_command(const struct cli_run_args *args)
{
    struct conf *conf = NULL;
    if (args->config && args->to_count) {
        fprintf(stderr, "foldback: run takes --config or --to, not both\n");
        return 2;
    }
    if (!args->config && !args->to_count) {
        fprintf(
            stderr,
            "foldback: run needs --to ADDRESS or --config FILE; try `foldback run --to :3000`\n");
        return 2;
    }
    int code = args->config ? load_file(args->config, &conf) : conf_of_flags(args, &conf);
    if (code)
        return code;
    const char *dir = args->state ? args->state : conf->p.top_state;
    if (!dir[0])
        dir = args->config ? "/var/lib/foldback" : "foldback-state";
    struct supervisor_setup setup = {
        .conf = conf,
        .file = args->config,
        .state_dir = dir,
        .is_admin_address_free =
            !args->admin && strcmp(conf->p.admin_listen, "127.0.0.1:9180") == 0,
        .is_quiet = args->is_quiet,
    };
    code = supervisor_run(&setup);
    conf_unref(conf);
    return code;
}
