/* stage.c - staging and damaging checkpoints. */
#define _GNU_SOURCE
#include "tests/unit/stage.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "stage: %s\n", what);
    exit(99);
}

const char *stage_golden(void)
{
    static char path[4096];
    const char *src = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/golden", src ? src : ".");
    return path;
}

const char *stage_path(const char *folder, const char *file)
{
    static char ring[8][16384];
    static unsigned at;
    char *p = ring[at++ % 8];

    snprintf(p, sizeof ring[0], "%s/%s", folder, file);
    return p;
}

void stage_write(const char *folder, const char *file, const void *data, size_t len)
{
    must(!crl_file_write(stage_path(folder, file), data, len, NULL), file);
}

static char *slurp(const char *path, size_t *len)
{
    char *data;

    must(!crl_file_read(&data, len, path, (size_t)1 << 30, NULL), path);
    return data;
}

static void copy_weights_and_config(const char *from, const char *to, bool weights_only)
{
    DIR *d = opendir(from);
    struct dirent *e;

    must(d != NULL, from);
    while ((e = readdir(d))) {
        bool weights = strstr(e->d_name, ".safetensors") != NULL;
        bool json = strstr(e->d_name, ".json") != NULL;
        char *data;
        size_t len;
        if (!weights && (weights_only || !json)) continue;
        data = slurp(stage_path(from, e->d_name), &len);
        stage_write(to, e->d_name, data, len);
        crl_free(data);
    }
    closedir(d);
}

char *stage_case(const char *name)
{
    char from[8000], folder[64];
    static unsigned n;

    snprintf(folder, sizeof folder, "stage-%ld-%u.dir", (long)getpid(), n++);
    must(mkdir(folder, 0777) == 0, folder);
    snprintf(from, sizeof from, "%s/model/%s", stage_golden(), name);
    copy_weights_and_config(from, folder, false);
    if (crl_file_exists(stage_path(from, "weights"))) {
        size_t len;
        char *other = slurp(stage_path(from, "weights"), &len);
        other[strcspn(other, " \n")] = 0;
        snprintf(from, sizeof from, "%s/model/%s", stage_golden(), other);
        copy_weights_and_config(from, folder, true);
        crl_free(other);
    }
    return crl_strdup(folder);
}

void stage_remove(char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.') unlink(stage_path(folder, e->d_name));
    if (d) closedir(d);
    must(rmdir(folder) == 0, folder);
    crl_free(folder);
}

static void save_json(const char *folder, const char *file, json_t *doc)
{
    char *text = crl_json_text(doc);

    must(text != NULL, file);
    stage_write(folder, file, text, strlen(text));
    crl_free(text);
    json_decref(doc);
}

void stage_config(const char *folder, const char *key, const char *value)
{
    json_t *doc, *inner, *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;

    must(!crl_json_read(&doc, stage_path(folder, "config.json"), NULL), "config.json");
    must(!value || v, value ? value : "");
    inner = json_object_get(doc, "text_config");
    if (!inner || key[0] == '/') inner = doc;
    if (key[0] == '/') key++;
    if (v) json_object_set_new(inner, key, v);
    else must(json_object_del(inner, key) == 0, key);
    save_json(folder, "config.json", doc);
}

/* model.safetensors in memory. */
struct weights {
    json_t *header;
    unsigned char *data;
    size_t n;
};

static struct weights load(const char *folder)
{
    struct weights w;
    size_t len, header;
    char *file = slurp(stage_path(folder, "model.safetensors"), &len);

    header = (size_t)crl_le64(file);
    w.header = json_loadb(file + 8, header, 0, NULL);
    must(w.header != NULL, "header");
    w.n = len - 8 - header;
    w.data = crl_alloc(w.n + 1, 1);
    memcpy(w.data, file + 8 + header, w.n);
    crl_free(file);
    return w;
}

static void save(const char *folder, struct weights *w)
{
    char *text = crl_json_text(w->header);
    size_t header = strlen(text);
    unsigned char *file = crl_alloc(8 + header + w->n, 1);

    crl_put_le64(file, header);
    memcpy(file + 8, text, header);
    memcpy(file + 8 + header, w->data, w->n);
    stage_write(folder, "model.safetensors", file, 8 + header + w->n);
    crl_free(file);
    crl_free(text);
    crl_free(w->data);
    json_decref(w->header);
}

static json_t *entry(struct weights *w, const char *tensor, size_t *begin, size_t *end)
{
    json_t *e = json_object_get(w->header, tensor), *o = json_object_get(e, "data_offsets");

    must(e != NULL, tensor);
    *begin = (size_t)json_integer_value(json_array_get(o, 0));
    *end = (size_t)json_integer_value(json_array_get(o, 1));
    return e;
}

void stage_drop(const char *folder, const char *tensor)
{
    struct weights w = load(folder);
    size_t begin, end, size;
    const char *name;
    json_t *e;

    entry(&w, tensor, &begin, &end);
    size = end - begin;
    memmove(w.data + begin, w.data + end, w.n - end);
    w.n -= size;
    json_object_del(w.header, tensor);
    json_object_foreach(w.header, name, e)
    {
        json_t *o = json_object_get(e, "data_offsets");
        json_int_t b = json_integer_value(json_array_get(o, 0)), f = json_integer_value(json_array_get(o, 1));
        if (!o || b < (json_int_t)end) continue;
        json_array_set_new(o, 0, json_integer(b - (json_int_t)size));
        json_array_set_new(o, 1, json_integer(f - (json_int_t)size));
    }
    save(folder, &w);
}

void stage_rename(const char *folder, const char *tensor, const char *to)
{
    struct weights w = load(folder);
    size_t begin, end;

    json_object_set(w.header, to, entry(&w, tensor, &begin, &end));
    json_object_del(w.header, tensor);
    save(folder, &w);
}

static void set_field(const char *folder, const char *tensor, const char *field, json_t *value)
{
    struct weights w = load(folder);
    size_t begin, end;

    must(value != NULL, field);
    json_object_set_new(entry(&w, tensor, &begin, &end), field, value);
    save(folder, &w);
}

void stage_reshape(const char *folder, const char *tensor, const char *shape)
{
    set_field(folder, tensor, "shape", json_loads(shape, 0, NULL));
}

void stage_retype(const char *folder, const char *tensor, const char *dtype)
{
    set_field(folder, tensor, "dtype", json_string(dtype));
}

void stage_poke(const char *folder, const char *tensor, size_t offset, const void *data, size_t len)
{
    struct weights w = load(folder);
    size_t begin, end;

    entry(&w, tensor, &begin, &end);
    must(offset + len <= end - begin, tensor);
    memcpy(w.data + begin + offset, data, len);
    save(folder, &w);
}

void stage_add(const char *folder, const char *tensor, const char *dtype, const char *shape, size_t bytes)
{
    struct weights w = load(folder);
    unsigned char *data = crl_alloc(w.n + bytes + 1, 1);
    json_t *e = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", json_loads(shape, 0, NULL),
                          "data_offsets", (json_int_t)w.n, (json_int_t)(w.n + bytes));

    memcpy(data, w.data, w.n);
    crl_free(w.data);
    w.data = data;
    w.n += bytes;
    json_object_set_new(w.header, tensor, e);
    save(folder, &w);
}
