/* chat.c - rendering a conversation, rule by rule as docs/model.md, "Chat format", lists them. */
#include "text/chat.h"

#include "base/mem.h"
#include "text/tojson.h"
#include "text/utf8.h"

#define MSG_MAX ((size_t)1 << 20)
#define ANSWER_FORM                                                                                          \
    "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its "   \
    "value}.Do not use variables.\n\n"
#define USER_FORM                                                                                            \
    "Given the following functions, please respond with a JSON for a function call with its proper "         \
    "arguments that best answers the given prompt.\n\n" ANSWER_FORM
#define SYSTEM_FORM                                                                                          \
    "You have access to the following functions. To call a function, please respond with JSON for a "        \
    "function call." ANSWER_FORM

static void msg_fini(struct crl_msg *m)
{
    size_t i;

    for (i = 0; i < m->n_part; i++) crl_free(m->parts[i].text);
    crl_free(m->parts);
    crl_free(m->role);
    json_decref(m->calls);
    json_decref(m->result);
}

void crl_chat_fini(struct crl_chat *chat)
{
    size_t i;

    for (i = 0; i < chat->n_msg; i++) msg_fini(&chat->msgs[i]);
    crl_free(chat->msgs);
    json_decref(chat->tools);
    memset(chat, 0, sizeof *chat);
}

enum crl_status crl_chat_add(struct crl_chat *chat, const char *role, struct crl_err *err)
{
    enum crl_status st =
        crl_grow((void **)&chat->msgs, &chat->cap_msg, chat->n_msg + 1, sizeof *chat->msgs, MSG_MAX, err);
    struct crl_msg m = { 0 };

    if (st) return st;
    m.role = crl_strdup(role);
    if (!m.role) return crl_fail(err, CRL_ENOMEM, "no memory for a message");
    chat->msgs[chat->n_msg++] = m;
    return CRL_OK;
}

static enum crl_status add_part(struct crl_chat *chat, enum crl_part_kind kind, const char *text, size_t len,
                                struct crl_err *err)
{
    struct crl_msg *m;
    enum crl_status st;
    char *copy;

    if (chat->n_msg == 0) return crl_fail(err, CRL_ERANGE, "a part without a message");
    m = &chat->msgs[chat->n_msg - 1];
    st = crl_grow((void **)&m->parts, &m->cap_part, m->n_part + 1, sizeof *m->parts, MSG_MAX, err);
    if (st) return st;
    copy = text ? crl_memdup0(text, len) : NULL;
    if (text && !copy) return crl_fail(err, CRL_ENOMEM, "no memory for a text of %zu bytes", len);
    m->parts[m->n_part++] = (struct crl_part){ kind, copy, len };
    return CRL_OK;
}

enum crl_status crl_chat_add_text(struct crl_chat *chat, const char *text, size_t len, struct crl_err *err)
{
    return add_part(chat, CRL_PART_TEXT, text, len, err);
}

enum crl_status crl_chat_add_image(struct crl_chat *chat, const char *source, struct crl_err *err)
{
    return add_part(chat, CRL_PART_IMAGE, source, source ? strlen(source) : 0, err);
}

/* The next mark in text[len], NULL when there is none. */
static const char *find_mark(const char *text, size_t len)
{
    size_t n = strlen(CRL_CHAT_IMAGE_MARK);

    for (size_t i = 0; i + n <= len; i++)
        if (!memcmp(text + i, CRL_CHAT_IMAGE_MARK, n)) return text + i;
    return NULL;
}

enum crl_status crl_chat_add_marked(struct crl_chat *chat, const char *text, size_t len, size_t n_image,
                                    struct crl_err *err)
{
    size_t n_mark = 0, n = strlen(CRL_CHAT_IMAGE_MARK);
    const char *end = text + len, *mark;
    enum crl_status st = CRL_OK;

    if (!n_image) return crl_chat_add_text(chat, text, len, err);
    for (const char *p = text; (mark = find_mark(p, (size_t)(end - p))); p = mark + n) n_mark++;
    if (n_mark && n_mark != n_image)
        return crl_fail(err, CRL_ERANGE, "the text has %zu times " CRL_CHAT_IMAGE_MARK ", but there %s %zu picture%s", n_mark,
                        n_image == 1 ? "is" : "are", n_image, n_image == 1 ? "" : "s");
    for (size_t i = 0; !st && !n_mark && i < n_image; i++) st = crl_chat_add_image(chat, NULL, err);
    while (!st && n_mark && (mark = find_mark(text, (size_t)(end - text)))) {
        if (mark > text) st = crl_chat_add_text(chat, text, (size_t)(mark - text), err);
        if (!st) st = crl_chat_add_image(chat, NULL, err);
        text = mark + n;
    }
    if (!st && text < end) st = crl_chat_add_text(chat, text, (size_t)(end - text), err);
    return st;
}

/* ---- reading JSON ---- */

static enum crl_status read_part(struct crl_chat *chat, const json_t *part, struct crl_err *err)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text"), *url;

    if (!type) return crl_fail(err, CRL_EFORMAT, "a part of the content has no type");
    if (strcmp(type, "text") == 0) {
        if (!json_is_string(text)) return crl_fail(err, CRL_EFORMAT, "a part of type text has no text");
        return crl_chat_add_text(chat, json_string_value(text), json_string_length(text), err);
    }
    if (strcmp(type, "image") == 0 || strcmp(type, "image_url") == 0) {
        url = json_object_get(part, type);
        if (json_is_object(url)) url = json_object_get(url, "url");
        if (!json_is_string(url)) url = json_object_get(part, "url");
        return crl_chat_add_image(chat, json_string_value(url), err);
    }
    return add_part(chat, CRL_PART_OTHER, type, strlen(type), err);
}

static enum crl_status read_content(struct crl_chat *chat, const json_t *content, bool of_tool,
                                    struct crl_err *err)
{
    struct crl_msg *m = &chat->msgs[chat->n_msg - 1];
    enum crl_status st = CRL_OK;
    size_t i;

    if (!content || (json_is_null(content) && !of_tool)) return CRL_OK;
    if (json_is_string(content))
        return crl_chat_add_text(chat, json_string_value(content), json_string_length(content), err);
    if (of_tool) {
        m->result = json_incref((json_t *)(uintptr_t)content);
        return CRL_OK;
    }
    if (!json_is_array(content))
        return crl_fail(err, CRL_EFORMAT, "the content is neither text nor a list of parts");
    for (i = 0; i < json_array_size(content) && !st; i++)
        st = read_part(chat, json_array_get(content, i), err);
    return st;
}

/* The arguments of a call, a new reference. A JSON text stands for what it holds, other text for itself. */
static json_t *read_arguments(const json_t *v)
{
    const char *s = json_string_value(v);
    json_t *held;

    if (!v || json_is_null(v)) return json_object();
    if (!s) return json_incref((json_t *)(uintptr_t)v);
    if (json_string_length(v) == 0) return json_object();
    held = json_loadb(s, json_string_length(v), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return held ? held : json_incref((json_t *)(uintptr_t)v);
}

static enum crl_status read_calls(struct crl_msg *m, const json_t *calls, struct crl_err *err)
{
    size_t i;

    if (!calls || json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0)) return CRL_OK;
    if (!json_is_array(calls)) return crl_fail(err, CRL_EFORMAT, "tool_calls is not a list");
    m->calls = json_array();
    if (!m->calls) return crl_fail(err, CRL_ENOMEM, "no memory for a call");
    for (i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i), *inner = json_object_get(call, "function"), *name;
        json_t *one = json_object();

        if (json_is_object(inner)) call = inner;
        name = json_object_get(call, "name");
        if (!json_is_string(name)) {
            json_decref(one);
            return crl_fail(err, CRL_EFORMAT, "tool call %zu has no name", i);
        }
        if (json_object_set(one, "name", (json_t *)(uintptr_t)name) ||
            json_object_set_new(one, "arguments", read_arguments(json_object_get(call, "arguments"))) ||
            json_array_append(m->calls, one)) {
            json_decref(one);
            return crl_fail(err, CRL_ENOMEM, "no memory for a call");
        }
        json_decref(one);
    }
    return CRL_OK;
}

static bool is_tool(const char *role)
{
    return strcmp(role, "tool") == 0 || strcmp(role, "ipython") == 0;
}

static enum crl_status read_message(struct crl_chat *chat, const json_t *msg, struct crl_err *err)
{
    const json_t *role = json_object_get(msg, "role");
    const char *name = json_string_value(role);
    enum crl_status st;

    if (!name || !*name || strlen(name) != json_string_length(role))
        return crl_fail(err, CRL_EFORMAT, "there is no role");
    if (strcmp(name, "developer") == 0) name = "system";
    st = crl_chat_add(chat, name, err);
    if (!st) st = read_content(chat, json_object_get(msg, "content"), is_tool(name), err);
    if (!st) st = read_calls(&chat->msgs[chat->n_msg - 1], json_object_get(msg, "tool_calls"), err);
    return st;
}

static enum crl_status read_tools(struct crl_chat *chat, const json_t *doc, struct crl_err *err)
{
    const json_t *tools = json_object_get(doc, "custom_tools");
    size_t i;

    if (!tools || json_is_null(tools)) tools = json_object_get(doc, "tools");
    if (!tools || json_is_null(tools)) return CRL_OK;
    if (!json_is_array(tools)) return crl_fail(err, CRL_EFORMAT, "tools is not a list");
    for (i = 0; i < json_array_size(tools); i++)
        if (!json_is_object(json_array_get(tools, i)))
            return crl_fail(err, CRL_EFORMAT, "tool %zu is not an object", i);
    chat->tools = json_incref((json_t *)(uintptr_t)tools);
    return CRL_OK;
}

enum crl_status crl_chat_from_json(struct crl_chat *chat, const json_t *doc, struct crl_err *err)
{
    const json_t *list = json_is_array(doc) ? doc : json_object_get(doc, "messages"), *v;
    enum crl_status st = CRL_OK;
    size_t i;

    if (!json_is_array(list)) return crl_fail(err, CRL_EFORMAT, "there is no list of messages");
    v = json_object_get(doc, "tools_in_user_message");
    chat->tools_in_system = json_is_false(v);
    v = json_object_get(doc, "add_generation_prompt");
    chat->open_reply = !json_is_false(v);
    for (i = 0; i < json_array_size(list) && !st; i++) {
        st = read_message(chat, json_array_get(list, i), err);
        if (st) crl_err_prefix(err, "message %zu", i);
    }
    if (!st) st = read_tools(chat, doc, err);
    if (st) crl_chat_fini(chat);
    return st;
}

/* ---- rendering ---- */

struct job {
    const struct crl_chat *chat;
    struct crl_render *out;
    struct crl_err *err;
};

void crl_render_fini(struct crl_render *r)
{
    crl_str_fini(&r->text);
    crl_free(r->segs);
    memset(r, 0, sizeof *r);
}

/* Account for the bytes since `from` as a segment; text after text is one segment. */
static enum crl_status close_seg(struct job *j, enum crl_seg_kind kind, size_t from, size_t msg, size_t part)
{
    struct crl_render *r = j->out;
    size_t len = r->text.len - from;
    enum crl_status st;

    if (len == 0) return CRL_OK;
    if (kind == CRL_SEG_TEXT && r->n_seg && r->segs[r->n_seg - 1].kind == CRL_SEG_TEXT) {
        r->segs[r->n_seg - 1].len += len;
        return CRL_OK;
    }
    st = crl_grow((void **)&r->segs, &r->cap_seg, r->n_seg + 1, sizeof *r->segs, CRL_STR_MAX, j->err);
    if (!st) r->segs[r->n_seg++] = (struct crl_seg){ kind, len, msg, part };
    return st;
}

static enum crl_status put_text(struct job *j, const char *s, size_t len)
{
    size_t from = j->out->text.len;
    enum crl_status st = crl_str_add(&j->out->text, s, len, j->err);

    return st ? st : close_seg(j, CRL_SEG_TEXT, from, 0, 0);
}

static enum crl_status put_words(struct job *j, const char *s)
{
    return put_text(j, s, strlen(s));
}

static enum crl_status put_control(struct job *j, const char *name)
{
    size_t from = j->out->text.len;
    enum crl_status st = crl_str_puts(&j->out->text, name, j->err);

    return st ? st : close_seg(j, CRL_SEG_CONTROL, from, 0, 0);
}

static enum crl_status put_json(struct job *j, const json_t *v, unsigned indent)
{
    size_t from = j->out->text.len;
    enum crl_status st = crl_tojson(&j->out->text, v, indent, j->err);

    return st ? st : close_seg(j, CRL_SEG_TEXT, from, 0, 0);
}

static enum crl_status put_head(struct job *j, const char *role)
{
    enum crl_status st = put_control(j, "<|header_start|>");

    if (!st) st = put_words(j, role);
    if (!st) st = put_control(j, "<|header_end|>");
    return st ? st : put_words(j, "\n\n");
}

static enum crl_status put_tools(struct job *j, const char *preamble)
{
    enum crl_status st = put_words(j, preamble);
    size_t i;

    for (i = 0; i < json_array_size(j->chat->tools) && !st; i++) {
        st = put_json(j, json_array_get(j->chat->tools, i), 4);
        if (!st) st = put_words(j, "\n\n");
    }
    return st;
}

/* What Python's str.strip() takes away: White_Space and the four information separators. */
static bool is_blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

static void trim_left(const char **s, size_t *len)
{
    size_t used;

    while (*len && crl_utf8_step((const unsigned char *)*s, *len, &used) == CRL_UTF8_OK &&
           is_blank(crl_utf8_code((const unsigned char *)*s, used))) {
        *s += used;
        *len -= used;
    }
}

static void trim_right(const char *s, size_t *len)
{
    while (*len) {
        size_t back = 1, used;
        const unsigned char *p;

        while (back < *len && back < 4 && ((unsigned char)s[*len - back] & 0xc0) == 0x80) back++;
        p = (const unsigned char *)s + *len - back;
        if (crl_utf8_step(p, back, &used) != CRL_UTF8_OK || used != back || !is_blank(crl_utf8_code(p, used)))
            return;
        *len -= back;
    }
}

static enum crl_status put_part(struct job *j, size_t msg, size_t part)
{
    const struct crl_part *p = &j->chat->msgs[msg].parts[part];
    size_t from = j->out->text.len;
    enum crl_status st;

    if (p->kind == CRL_PART_TEXT) return put_text(j, p->text, p->len);
    if (p->kind == CRL_PART_OTHER) return CRL_OK;
    st = crl_str_puts(&j->out->text, "<|image|>", j->err);
    return st ? st : close_seg(j, CRL_SEG_IMAGE, from, msg, part);
}

static enum crl_status put_parts(struct job *j, size_t msg)
{
    enum crl_status st = CRL_OK;
    size_t i;

    for (i = 0; i < j->chat->msgs[msg].n_part && !st; i++) st = put_part(j, msg, i);
    return st;
}

/* The parts joined, then trimmed at both ends: blanks go until something else is met, across parts. */
static enum crl_status put_trimmed(struct job *j, size_t msg)
{
    const struct crl_msg *m = &j->chat->msgs[msg];
    size_t first = 0, last = m->n_part, i;
    enum crl_status st = CRL_OK;

    if (m->result) return put_json(j, m->result, 0);
    for (; first < last; first++) {
        const char *s = m->parts[first].text;
        size_t len = m->parts[first].len;

        if (m->parts[first].kind == CRL_PART_IMAGE) break;
        if (m->parts[first].kind == CRL_PART_TEXT) trim_left(&s, &len);
        if (m->parts[first].kind == CRL_PART_TEXT && len) break;
    }
    for (; last > first; last--) {
        size_t len = m->parts[last - 1].len;

        if (m->parts[last - 1].kind == CRL_PART_IMAGE) break;
        if (m->parts[last - 1].kind == CRL_PART_TEXT) trim_right(m->parts[last - 1].text, &len);
        if (m->parts[last - 1].kind == CRL_PART_TEXT && len) break;
    }
    for (i = first; i < last && !st; i++) {
        const char *s = m->parts[i].text;
        size_t len = m->parts[i].len;

        if (m->parts[i].kind != CRL_PART_TEXT) {
            st = put_part(j, msg, i);
            continue;
        }
        if (i == first) trim_left(&s, &len);
        if (i + 1 == last) trim_right(s, &len);
        st = put_text(j, s, len);
    }
    return st;
}

/* The block of the first message when its role is system; of a list only the first part counts. */
static enum crl_status put_system(struct job *j, bool given)
{
    const struct crl_chat *c = j->chat;
    enum crl_status st = put_head(j, "system");
    const char *s = "";
    size_t len = 0;

    if (given && c->msgs[0].n_part && c->msgs[0].parts[0].kind == CRL_PART_TEXT) {
        s = c->msgs[0].parts[0].text;
        len = c->msgs[0].parts[0].len;
    }
    trim_left(&s, &len);
    trim_right(s, &len);
    if (!st && c->tools) st = put_words(j, "Environment: ipython\n");
    if (!st && c->tools && c->tools_in_system) st = put_tools(j, SYSTEM_FORM);
    if (!st) st = put_text(j, s, len);
    return st ? st : put_control(j, "<|eot|>");
}

static enum crl_status put_calls(struct job *j, size_t msg)
{
    const json_t *calls = j->chat->msgs[msg].calls;
    enum crl_status st = put_head(j, "assistant");
    size_t i;

    if (!st) st = put_control(j, "<|python_start|>");
    if (!st) st = put_parts(j, msg);
    if (!st) st = put_control(j, "<|python_end|>");
    for (i = 0; i < json_array_size(calls) && !st; i++) {
        const json_t *call = json_array_get(calls, i);

        st = put_words(j, "{\"name\": ");
        if (!st) st = put_json(j, json_object_get(call, "name"), 0);
        if (!st) st = put_words(j, ", \"parameters\": ");
        if (!st) st = put_json(j, json_object_get(call, "arguments"), 0);
        if (!st) st = put_words(j, "}");
    }
    return st ? st : put_control(j, "<|eot|>");
}

/* A tool's result is printed as JSON, so text gets quotes. */
static enum crl_status put_result(struct job *j, size_t msg)
{
    const struct crl_msg *m = &j->chat->msgs[msg];
    struct crl_str joined = { NULL, 0, 0 };
    enum crl_status st = put_head(j, "ipython");
    size_t from, i;

    if (!st && m->result) st = put_json(j, m->result, 0);
    if (!st && !m->result) {
        for (i = 0; i < m->n_part && !st; i++)
            if (m->parts[i].kind == CRL_PART_TEXT)
                st = crl_str_add(&joined, m->parts[i].text, m->parts[i].len, j->err);
        from = j->out->text.len;
        if (!st) st = crl_tojson_string(&j->out->text, joined.s ? joined.s : "", joined.len, j->err);
        if (!st) st = close_seg(j, CRL_SEG_TEXT, from, 0, 0);
        crl_str_fini(&joined);
    }
    return st ? st : put_control(j, "<|eot|>");
}

static enum crl_status put_message(struct job *j, size_t msg)
{
    const struct crl_msg *m = &j->chat->msgs[msg];
    enum crl_status st;

    if (is_tool(m->role)) return put_result(j, msg);
    if (m->calls) return put_calls(j, msg);
    st = put_head(j, m->role);
    if (!st) st = put_parts(j, msg);
    return st ? st : put_control(j, "<|eot|>");
}

/* The message that carries the tools is printed as the user's, whoever spoke. */
static enum crl_status put_with_tools(struct job *j, size_t msg)
{
    enum crl_status st = put_head(j, "user");

    if (!st) st = put_tools(j, USER_FORM);
    if (!st) st = put_trimmed(j, msg);
    return st ? st : put_control(j, "<|eot|>");
}

enum crl_status crl_chat_render(const struct crl_chat *chat, struct crl_render *out, struct crl_err *err)
{
    struct job j = { chat, out, err };
    bool system = chat->n_msg && strcmp(chat->msgs[0].role, "system") == 0;
    bool in_user = chat->tools && !chat->tools_in_system;
    size_t first = system ? 1 : 0, i;
    enum crl_status st;

    if (in_user && first == chat->n_msg)
        return crl_fail(err, CRL_ERANGE,
                        "there are tools but no message after the system message to print them in");
    st = put_control(&j, "<|begin_of_text|>");
    if (!st && (system || (chat->tools && chat->tools_in_system))) st = put_system(&j, system);
    for (i = first; i < chat->n_msg && !st; i++)
        st = i == first && in_user ? put_with_tools(&j, i) : put_message(&j, i);
    if (!st && chat->open_reply) st = put_head(&j, "assistant");
    return st;
}

enum crl_status crl_chat_text(const struct crl_chat *chat, struct crl_str *out, struct crl_err *err)
{
    struct crl_render r = { 0 };
    enum crl_status st = crl_chat_render(chat, &r, err);

    if (!st) st = crl_str_add(out, r.text.s, r.text.len, err);
    crl_render_fini(&r);
    return st;
}

void crl_prompt_fini(struct crl_prompt *p)
{
    crl_ids_fini(&p->ids);
    crl_free(p->images);
    memset(p, 0, sizeof *p);
}

static enum crl_status add_control(const struct crl_tok *tok, const char *s, size_t len,
                                   struct crl_prompt *out, struct crl_err *err)
{
    char name[64];
    int32_t id = -1;

    if (len < sizeof name) {
        memcpy(name, s, len);
        name[len] = '\0';
        id = crl_tok_special_id(tok, name);
    }
    if (id < 0) return crl_fail(err, CRL_ENOENT, "the tokenizer has no token %.*s", (int)len, s);
    return crl_ids_add(&out->ids, id, err);
}

enum crl_status crl_chat_ids(const struct crl_chat *chat, const struct crl_tok *tok, struct crl_prompt *out,
                             struct crl_err *err)
{
    struct crl_render r = { 0 };
    enum crl_status st = crl_chat_render(chat, &r, err);
    const char *s = r.text.s;
    size_t i;

    for (i = 0; i < r.n_seg && !st; s += r.segs[i].len, i++) {
        const struct crl_seg *seg = &r.segs[i];

        if (seg->kind == CRL_SEG_TEXT) {
            st = crl_tok_encode(tok, s, seg->len, CRL_TOK_PLAIN, &out->ids, err);
            continue;
        }
        if (seg->kind == CRL_SEG_IMAGE) {
            st = crl_grow((void **)&out->images, &out->cap_image, out->n_image + 1, sizeof *out->images,
                          MSG_MAX, err);
            if (st) break;
            out->images[out->n_image++] = (struct crl_image_at){ out->ids.n, seg->msg, seg->part };
        }
        st = add_control(tok, s, seg->len, out, err);
    }
    crl_render_fini(&r);
    return st;
}
