/* pickle.c - a stack machine that only makes records. */
#include "convert/pickle.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum kind { MARK, NONE, BOOL, INT, REAL, TEXT, TUPLE, DICT, LIST, GLOBAL, STORAGE, TENSOR, OTHER };

struct value {
    enum kind kind;
    unsigned which; /* GLOBAL: row of `globals`; STORAGE: its type's row */
    uint64_t
        a; /* INT: the number; TEXT: first byte; TUPLE: first item; DICT: number; else: index of a record */
    uint64_t n; /* TEXT: bytes; TUPLE: items */
};

/* What a storage or a tensor was made from: the values as they stand in the tuple. */
struct record {
    struct value part[5];
};

struct pair {
    uint64_t dict;
    struct value key, value;
};

enum what { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_TYPE, BUFFER };

/* Every word that may be named. */
static const struct global {
    const char *module, *name;
    enum what what;
    enum crl_st_type type;
} globals[] = {
    { "collections", "OrderedDict", ORDERED_DICT, CRL_ST_OTHER },
    { "torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, CRL_ST_OTHER },
    { "torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, CRL_ST_OTHER },
    { "torch", "BFloat16Storage", STORAGE_TYPE, CRL_ST_BF16 },
    { "torch", "HalfStorage", STORAGE_TYPE, CRL_ST_F16 },
    { "torch", "FloatStorage", STORAGE_TYPE, CRL_ST_F32 },
    { "torch", "CharStorage", STORAGE_TYPE, CRL_ST_I8 },
    { "torch", "IntStorage", STORAGE_TYPE, CRL_ST_I32 },
    { "torch", "LongStorage", STORAGE_TYPE, CRL_ST_I64 },
    { "torch", "ByteStorage", STORAGE_TYPE, CRL_ST_OTHER },
    { "torch", "BoolStorage", STORAGE_TYPE, CRL_ST_OTHER },
    { "torch", "ShortStorage", STORAGE_TYPE, CRL_ST_OTHER },
    { "torch", "DoubleStorage", STORAGE_TYPE, CRL_ST_OTHER },
    { "_io", "BytesIO", BUFFER, CRL_ST_OTHER }, /* extra state of some layers, and what it is made of */
    { "_codecs", "encode", BUFFER, CRL_ST_OTHER },
    { "__builtin__", "bytes", BUFFER, CRL_ST_OTHER },
};
#define N_GLOBAL (sizeof globals / sizeof *globals)

struct array {
    void *p;
    size_t n, cap;
};

struct machine {
    const unsigned char *data;
    size_t len, at;
    const char *what;
    struct array stack, memo, item, record, pair; /* of value, value, value, record, pair */
    uint64_t n_dict;
    struct crl_err *err;
};

struct crl_pickle {
    size_t n;
    struct crl_pickle_tensor *tensor;
    char *names; /* names and keys of storages, each with its zero byte */
};

typedef unsigned long long ull;

static enum crl_status fail(struct machine *m, const char *why)
{
    return crl_fail(m->err, CRL_EFORMAT, "%s: its table of tensors: %s (byte %zu)", m->what, why, m->at);
}

/* Room for one more; there is never more of anything than the pickle has bytes. */
static enum crl_status grow(struct machine *m, struct array *a, size_t size)
{
    enum crl_status st = crl_grow(&a->p, &a->cap, a->n + 1, size, 2 * m->len + 16, m->err);

    if (st == CRL_EFULL) crl_err_prefix(m->err, "%s", m->what);
    return st;
}

static struct value *stack_at(const struct machine *m, size_t i)
{
    return (struct value *)m->stack.p + i;
}

static enum crl_status push(struct machine *m, struct value v)
{
    enum crl_status st = grow(m, &m->stack, sizeof v);

    if (!st) *stack_at(m, m->stack.n++) = v;
    return st;
}

static enum crl_status pop(struct machine *m, struct value *v)
{
    if (m->stack.n == 0 || stack_at(m, m->stack.n - 1)->kind == MARK)
        return fail(m, "takes from an empty stack");
    *v = *stack_at(m, --m->stack.n);
    return CRL_OK;
}

static enum crl_status bytes(struct machine *m, size_t n, const unsigned char **p)
{
    if (n > m->len - m->at) return fail(m, "ends in the middle");
    *p = m->data + m->at;
    m->at += n;
    return CRL_OK;
}

static const struct value *item_at(const struct machine *m, const struct value *tuple, uint64_t i)
{
    return (const struct value *)m->item.p + tuple->a + i;
}

static enum crl_status make_tuple(struct machine *m, size_t first)
{
    struct value v = { TUPLE, 0, m->item.n, m->stack.n - first };
    enum crl_status st = CRL_OK;

    for (size_t i = first; i < m->stack.n && !st; i++) {
        st = grow(m, &m->item, sizeof v);
        if (!st) ((struct value *)m->item.p)[m->item.n++] = *stack_at(m, i);
    }
    m->stack.n = first;
    return st ? st : push(m, v);
}

static enum crl_status find_mark(struct machine *m, size_t *at)
{
    for (size_t i = m->stack.n; i-- > 0;)
        if (stack_at(m, i)->kind == MARK) {
            *at = i;
            return CRL_OK;
        }
    return fail(m, "a mark is missing");
}

static enum crl_status tuple_from_mark(struct machine *m)
{
    size_t at = 0;
    enum crl_status st = find_mark(m, &at);

    if (st) return st;
    memmove(stack_at(m, at), stack_at(m, at + 1), (m->stack.n - at - 1) * sizeof(struct value));
    m->stack.n--;
    return make_tuple(m, at);
}

static enum crl_status tuple_of(struct machine *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (i >= m->stack.n || stack_at(m, m->stack.n - 1 - i)->kind == MARK)
            return fail(m, "takes from an empty stack");
    return make_tuple(m, m->stack.n - n);
}

static enum crl_status text(struct machine *m, uint64_t n)
{
    struct value v = { TEXT, 0, m->at, n };
    const unsigned char *p = NULL;
    enum crl_status st = n > m->len ? fail(m, "ends in the middle") : bytes(m, (size_t)n, &p);

    return st ? st : push(m, v);
}

static enum crl_status name_global(struct machine *m, const unsigned char *module, size_t n_module,
                                   const unsigned char *name, size_t n_name)
{
    char shown[80];
    size_t used = 0;

    for (unsigned i = 0; i < N_GLOBAL; i++)
        if (strlen(globals[i].module) == n_module && memcmp(globals[i].module, module, n_module) == 0 &&
            strlen(globals[i].name) == n_name && memcmp(globals[i].name, name, n_name) == 0)
            return push(m, (struct value){ GLOBAL, i, 0, 0 });
    for (size_t i = 0; i < n_module + 1 + n_name && used + 1 < sizeof shown; i++) {
        unsigned char c = i < n_module ? module[i] : i == n_module ? '.' : name[i - n_module - 1];
        shown[used++] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
    }
    shown[used] = 0;
    return crl_fail(m->err, CRL_EUNSUPPORTED,
                    "%s: its table names %s; only tensors and dictionaries are read, and nothing is executed",
                    m->what, shown);
}

/* "module\nname\n" */
static enum crl_status global(struct machine *m)
{
    const unsigned char *p = m->data + m->at, *end = m->data + m->len;
    const unsigned char *a = memchr(p, '\n', (size_t)(end - p)), *b;

    if (!a || !(b = memchr(a + 1, '\n', (size_t)(end - a - 1)))) return fail(m, "ends in the middle");
    m->at = (size_t)(b + 1 - m->data);
    return name_global(m, p, (size_t)(a - p), a + 1, (size_t)(b - a - 1));
}

static enum crl_status stack_global(struct machine *m)
{
    struct value name, module;
    enum crl_status st = pop(m, &name);

    if (!st) st = pop(m, &module);
    if (!st && (name.kind != TEXT || module.kind != TEXT)) st = fail(m, "a global name is not text");
    return st ? st : name_global(m, m->data + module.a, (size_t)module.n, m->data + name.a, (size_t)name.n);
}

static enum crl_status new_record(struct machine *m, enum kind kind, unsigned which, const struct record *r)
{
    struct value v = { kind, which, m->record.n, 0 };
    enum crl_status st = grow(m, &m->record, sizeof *r);

    if (st) return st;
    ((struct record *)m->record.p)[m->record.n++] = *r;
    return push(m, v);
}

/* ("storage", type, key, device, elements) */
static enum crl_status storage(struct machine *m)
{
    struct value t;
    struct record r = { { { NONE, 0, 0, 0 } } };
    enum crl_status st = pop(m, &t);

    if (st) return st;
    if (t.kind != TUPLE || t.n != 5) return fail(m, "a storage is not described by five values");
    for (size_t i = 0; i < 5; i++) r.part[i] = *item_at(m, &t, i);
    if (r.part[1].kind != GLOBAL || globals[r.part[1].which].what != STORAGE_TYPE || r.part[2].kind != TEXT ||
        r.part[4].kind != INT)
        return fail(m, "a storage has no type, key or size");
    return new_record(m, STORAGE, r.part[1].which, &r);
}

static enum crl_status new_dict(struct machine *m)
{
    return push(m, (struct value){ DICT, 0, m->n_dict++, 0 });
}

static enum crl_status reduce(struct machine *m)
{
    struct value args, fn;
    struct record r = { { { NONE, 0, 0, 0 } } };
    enum crl_status st = pop(m, &args);

    if (!st) st = pop(m, &fn);
    if (st) return st;
    if (fn.kind != GLOBAL || args.kind != TUPLE) return fail(m, "calls what is no function");
    switch (globals[fn.which].what) {
    case ORDERED_DICT:
        return args.n ? fail(m, "a dictionary made from something else") : new_dict(m);
    case BUFFER:
        return push(m, (struct value){ OTHER, 0, 0, 0 });
    case REBUILD_PARAMETER:
        if (args.n < 1 || item_at(m, &args, 0)->kind != TENSOR)
            return fail(m, "a parameter without a tensor");
        return push(m, *item_at(m, &args, 0));
    case REBUILD_TENSOR:
        if (args.n < 4) return fail(m, "a tensor of too few values");
        for (size_t i = 0; i < 4; i++) r.part[i] = *item_at(m, &args, i);
        if (r.part[0].kind != STORAGE || r.part[1].kind != INT || r.part[2].kind != TUPLE ||
            r.part[3].kind != TUPLE || r.part[2].n != r.part[3].n)
            return fail(m, "a tensor without storage, offset, shape or strides");
        return new_record(m, TENSOR, 0, &r);
    case STORAGE_TYPE:
        break;
    }
    return fail(m, "calls what is no function");
}

static enum crl_status set_item(struct machine *m, const struct value *dict, const struct value *key,
                                const struct value *value)
{
    struct pair p = { dict->a, *key, *value };
    enum crl_status st;

    if (dict->kind != DICT) return fail(m, "puts an item into what is no dictionary");
    st = grow(m, &m->pair, sizeof p);
    if (!st) ((struct pair *)m->pair.p)[m->pair.n++] = p;
    return st;
}

static enum crl_status set_items(struct machine *m)
{
    size_t at = 0;
    enum crl_status st = find_mark(m, &at);

    if (st) return st;
    if (at == 0 || (m->stack.n - at) % 2 == 0) return fail(m, "items that are not in pairs");
    for (size_t i = at + 1; i + 1 < m->stack.n && !st; i += 2)
        st = set_item(m, stack_at(m, at - 1), stack_at(m, i), stack_at(m, i + 1));
    m->stack.n = at;
    return st;
}

static enum crl_status set_one(struct machine *m)
{
    struct value key, value;
    enum crl_status st = pop(m, &value);

    if (!st) st = pop(m, &key);
    if (!st && m->stack.n == 0) st = fail(m, "takes from an empty stack");
    return st ? st : set_item(m, stack_at(m, m->stack.n - 1), &key, &value);
}

/* Lists occur in what is left out only: their content is dropped. */
static enum crl_status append(struct machine *m, bool many)
{
    size_t at = m->stack.n - 1;
    enum crl_status st = m->stack.n ? CRL_OK : fail(m, "takes from an empty stack");

    if (!st && many) st = find_mark(m, &at);
    if (st) return st;
    if (at == 0 || stack_at(m, at - 1)->kind != LIST) return fail(m, "appends to what is no list");
    m->stack.n = at;
    return CRL_OK;
}

static enum crl_status put(struct machine *m, uint64_t i)
{
    enum crl_status st = CRL_OK;

    if (m->stack.n == 0 || i > m->memo.n) return fail(m, "a memo out of range");
    if (i == m->memo.n) {
        st = grow(m, &m->memo, sizeof(struct value));
        if (!st) m->memo.n++;
    }
    if (!st) ((struct value *)m->memo.p)[i] = *stack_at(m, m->stack.n - 1);
    return st;
}

static enum crl_status get(struct machine *m, uint64_t i)
{
    if (i >= m->memo.n) return fail(m, "a memo that was never put");
    return push(m, ((struct value *)m->memo.p)[i]);
}

static enum crl_status integer(struct machine *m, const unsigned char *p, size_t n)
{
    uint64_t v = 0;

    if (n > 8) return fail(m, "an integer of more than 64 bits");
    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    if (n && n < 8 && p[n - 1] & 0x80) v |= ~(uint64_t)0 << (8 * n);
    return push(m, (struct value){ INT, 0, v, 0 });
}

/* One instruction; *done after the last. */
static enum crl_status step(struct machine *m, bool *done)
{
    const unsigned char *p = m->data, *q = m->data;
    struct value v;
    enum crl_status st = bytes(m, 1, &p);

    if (st) return st;
    switch (*p) {
    case 0x80:
        return bytes(m, 1, &q); /* PROTO */
    case 0x95:
        return bytes(m, 8, &q); /* FRAME */
    case '(':
        return push(m, (struct value){ MARK, 0, 0, 0 });
    case ')':
        return make_tuple(m, m->stack.n);
    case '}':
        return new_dict(m);
    case ']':
        return push(m, (struct value){ LIST, 0, 0, 0 });
    case 'N':
        return push(m, (struct value){ NONE, 0, 0, 0 });
    case 0x88:
        return push(m, (struct value){ BOOL, 0, 1, 0 });
    case 0x89:
        return push(m, (struct value){ BOOL, 0, 0, 0 });
    case 'K':
        return (st = bytes(m, 1, &q)) ? st : push(m, (struct value){ INT, 0, q[0], 0 });
    case 'M':
        return (st = bytes(m, 2, &q)) ? st : push(m, (struct value){ INT, 0, crl_le16(q), 0 });
    case 'J':
        return (st = bytes(m, 4, &q)) ? st : integer(m, q, 4);
    case 0x8a: /* LONG1 */
        st = bytes(m, 1, &q);
        if (!st) st = bytes(m, q[0], &p);
        return st ? st : integer(m, p, (size_t)(m->data + m->at - p));
    case 'G':
        return (st = bytes(m, 8, &q)) ? st : push(m, (struct value){ REAL, 0, 0, 0 });
    case 'X':
    case 'B':
    case 'T':
        return (st = bytes(m, 4, &q)) ? st : text(m, crl_le32(q));
    case 0x8c:
    case 'C':
    case 'U':
        return (st = bytes(m, 1, &q)) ? st : text(m, q[0]);
    case 'c':
        return global(m);
    case 0x93:
        return stack_global(m);
    case 't':
        return tuple_from_mark(m);
    case 0x85:
    case 0x86:
    case 0x87:
        return tuple_of(m, *p - 0x84u);
    case 'Q':
        return storage(m);
    case 0x81: /* NEWOBJ: the same to us */
    case 'R':
        return reduce(m);
    case 's':
        return set_one(m);
    case 'u':
        return set_items(m);
    case 'a':
        return append(m, false);
    case 'e':
        return append(m, true);
    case 'b':
        return pop(m, &v); /* BUILD: attributes of a dictionary, which nothing here reads */
    case '0':
        return pop(m, &v);
    case 'q':
        return (st = bytes(m, 1, &q)) ? st : put(m, q[0]);
    case 'r':
        return (st = bytes(m, 4, &q)) ? st : put(m, crl_le32(q));
    case 0x94:
        return put(m, m->memo.n);
    case 'h':
        return (st = bytes(m, 1, &q)) ? st : get(m, q[0]);
    case 'j':
        return (st = bytes(m, 4, &q)) ? st : get(m, crl_le32(q));
    case '.':
        *done = true;
        return CRL_OK;
    }
    m->at--;
    return fail(m, "an instruction that no table of tensors has");
}

/* --- the table --------------------------------------------------------------------------------------- */

static bool is_extra(const struct machine *m, const struct value *key)
{
    static const char end[] = "_extra_state";
    size_t n = sizeof end - 1;

    return key->n >= n && memcmp(m->data + key->a + key->n - n, end, n) == 0;
}

static const char *keep(struct crl_pickle *p, size_t *used, const struct machine *m, const struct value *v)
{
    char *to = p->names + *used;

    memcpy(to, m->data + v->a, (size_t)v->n);
    *used += (size_t)v->n + 1;
    return to;
}

/* Rows must follow each other: a transposed view has other strides. */
static enum crl_status take_shape(struct crl_pickle_tensor *t, const struct machine *m,
                                  const struct record *r)
{
    uint64_t want = 1;
    bool wrap = false;

    t->n_dim = (size_t)r->part[2].n;
    if (t->n_dim > CRL_ST_DIMS)
        return crl_fail(m->err, CRL_EFORMAT, "%s: tensor %s: %zu dimensions", m->what, t->name, t->n_dim);
    for (size_t i = t->n_dim; i-- > 0;) {
        const struct value *d = item_at(m, &r->part[2], i), *s = item_at(m, &r->part[3], i);
        if (d->kind != INT || s->kind != INT || d->a > INT64_MAX)
            return crl_fail(m->err, CRL_EFORMAT, "%s: tensor %s: its shape is not made of counts", m->what,
                            t->name);
        t->dim[i] = d->a;
        if (d->a > 1 && (wrap || s->a != want))
            return crl_fail(m->err, CRL_EUNSUPPORTED, "%s: tensor %s: its rows do not follow each other",
                            m->what, t->name);
        if (d->a && !crl_mul_u64(want, d->a, &want)) wrap = true;
    }
    return CRL_OK;
}

static enum crl_status take_tensor(struct crl_pickle *p, size_t *used, const struct machine *m,
                                   const struct pair *pair)
{
    struct crl_pickle_tensor *t = &p->tensor[p->n];
    const struct record *r, *s;

    t->name = keep(p, used, m, &pair->key);
    if (strlen(t->name) != pair->key.n)
        return crl_fail(m->err, CRL_EFORMAT, "%s: a name with a zero byte in it", m->what);
    if (pair->value.kind != TENSOR)
        return crl_fail(m->err, CRL_EUNSUPPORTED,
                        "%s: %s is no tensor; only a plain table of tensors is read", m->what, t->name);
    r = (const struct record *)m->record.p + pair->value.a;
    s = (const struct record *)m->record.p + r->part[0].a;
    t->storage = keep(p, used, m, &s->part[2]);
    if (strlen(t->storage) != s->part[2].n || s->part[2].n > 64)
        return crl_fail(m->err, CRL_EFORMAT, "%s: tensor %s: its data have no usable name", m->what, t->name);
    t->type = globals[r->part[0].which].type;
    t->type_name = globals[r->part[0].which].name;
    t->storage_size = s->part[4].a;
    t->offset = r->part[1].a;
    p->n++;
    return take_shape(t, m, r);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum crl_status check_names(const struct crl_pickle *p, const struct machine *m)
{
    const char **name = crl_alloc(p->n, sizeof *name);
    enum crl_status st = CRL_OK;

    if (!name) return crl_fail(m->err, CRL_ENOMEM, "%s: no memory", m->what);
    for (size_t i = 0; i < p->n; i++) name[i] = p->tensor[i].name;
    qsort(name, p->n, sizeof *name, by_name);
    for (size_t i = 1; i < p->n && !st; i++)
        if (strcmp(name[i], name[i - 1]) == 0)
            st = crl_fail(m->err, CRL_EFORMAT, "%s: two tensors are called %s", m->what, name[i]);
    crl_free(name);
    return st;
}

static enum crl_status collect(struct crl_pickle *p, const struct machine *m, const struct value *top)
{
    const struct pair *pair = m->pair.p;
    size_t n = 0, used = 0, room = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < m->pair.n; i++) {
        if (pair[i].dict != top->a) continue;
        if (pair[i].key.kind != TEXT)
            return crl_fail(m->err, CRL_EFORMAT, "%s: its table has a key that is no text", m->what);
        if (is_extra(m, &pair[i].key)) continue;
        room += (size_t)pair[i].key.n + 1;
        if (pair[i].value.kind == TENSOR) {
            const struct record *r = (const struct record *)m->record.p + pair[i].value.a;
            const struct record *s = (const struct record *)m->record.p + r->part[0].a;
            room += (size_t)s->part[2].n + 1;
        }
        if (room > CRL_PICKLE_MAX)
            return crl_fail(m->err, CRL_EFORMAT, "%s: its names are too long", m->what);
        n++;
    }
    p->tensor = crl_alloc(n, sizeof *p->tensor);
    p->names = crl_alloc(room, 1);
    if (!p->tensor || !p->names) return crl_fail(m->err, CRL_ENOMEM, "%s: no memory", m->what);
    for (size_t i = 0; i < m->pair.n && !st; i++)
        if (pair[i].dict == top->a && !is_extra(m, &pair[i].key)) st = take_tensor(p, &used, m, &pair[i]);
    return st ? st : check_names(p, m);
}

enum crl_status crl_pickle_parse(struct crl_pickle **out, const void *data, size_t len, const char *what,
                                 struct crl_err *err)
{
    struct crl_err local = { "" };
    struct machine m = { .data = data, .len = len, .what = what, .err = err ? err : &local };
    struct crl_pickle *p = crl_alloc(1, sizeof *p);
    bool done = false;
    enum crl_status st = p ? CRL_OK : crl_fail(err, CRL_ENOMEM, "%s: no memory", what);

    if (!st && (len < 2 || m.data[0] != 0x80)) st = fail(&m, "it does not begin as a pickle does");
    while (!st && !done) st = step(&m, &done);
    if (!st && (m.stack.n != 1 || stack_at(&m, 0)->kind != DICT))
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: what it holds is no dictionary of tensors", what);
    if (!st) st = collect(p, &m, stack_at(&m, 0));
    crl_free(m.stack.p);
    crl_free(m.memo.p);
    crl_free(m.item.p);
    crl_free(m.record.p);
    crl_free(m.pair.p);
    if (st) {
        crl_pickle_free(p);
        p = NULL;
    }
    *out = p;
    return st;
}

void crl_pickle_free(struct crl_pickle *p)
{
    if (!p) return;
    crl_free(p->tensor);
    crl_free(p->names);
    crl_free(p);
}

size_t crl_pickle_count(const struct crl_pickle *p)
{
    return p->n;
}

const struct crl_pickle_tensor *crl_pickle_at(const struct crl_pickle *p, size_t i)
{
    return &p->tensor[i];
}
