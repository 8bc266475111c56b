/* chat.h - a conversation and its rendering in Llama 4's chat format (docs/model.md, "Chat format").
 *
 * A rendering is a list of segments: control tokens, plain text, images. Control tokens are put in as ids and
 * text is tokenised as plain text, so nothing a user writes can end a turn or open another one. Text between
 * two control tokens is tokenised as one string, as the reference does: "\n\n" and the content together,
 * parts joined.
 *
 * Where the published template is at fault the meaning is rendered: calls that are null or empty are no
 * calls, null content is empty, arguments given as JSON text are parsed first, tools for the system block get
 * one when there is no system message, and list content beside tools is joined. */
#ifndef CRL_TEXT_CHAT_H
#define CRL_TEXT_CHAT_H

#include "base/json.h"
#include "text/str.h"
#include "text/tok.h"

enum crl_part_kind {
    CRL_PART_TEXT,
    CRL_PART_IMAGE,
    CRL_PART_OTHER /* a kind of part this program does not know; prints nothing */
};

struct crl_part {
    enum crl_part_kind kind;
    char *text; /* the text; for an image its path or URL, NULL when none was given; for others the type */
    size_t len; /* bytes of text */
};

struct crl_msg {
    char *role;             /* printed as it is; "tool" and "ipython" both print as ipython */
    struct crl_part *parts; /* [n_part] */
    size_t n_part, cap_part;
    json_t *calls;  /* [{"name": string, "arguments": any}, ...] or NULL */
    json_t *result; /* content of a tool's message that is no plain string, or NULL */
};

/* Zeroed storage is an empty conversation; crl_chat_fini releases and empties it. */
struct crl_chat {
    struct crl_msg *msgs; /* [n_msg] */
    size_t n_msg, cap_msg;
    json_t *tools;        /* list of tool descriptions or NULL; an empty list still prints its preamble */
    bool tools_in_system; /* print them in the system block; otherwise in the first message after it */
    bool open_reply;      /* end with the header of a reply that is to be generated */
};

void crl_chat_fini(struct crl_chat *chat);

/* Add an empty message, then parts to the last message. Strings are copied; source may be NULL. */
enum crl_status crl_chat_add(struct crl_chat *chat, const char *role, struct crl_err *err);
enum crl_status crl_chat_add_text(struct crl_chat *chat, const char *text, size_t len, struct crl_err *err);
enum crl_status crl_chat_add_image(struct crl_chat *chat, const char *source, struct crl_err *err);

/* Add text in which every "<image>" stands for one of n_image images; when it has none, the images come before it. With
 * n_image 0 the text is plain text, whatever it says. CRL_ERANGE when the numbers differ. */
#define CRL_CHAT_IMAGE_MARK "<image>"
enum crl_status crl_chat_add_marked(struct crl_chat *chat, const char *text, size_t len, size_t n_image,
                                    struct crl_err *err);

/* Read a conversation from a list of messages as the OpenAI interface writes them, or from an object with the
 * keys messages, tools, custom_tools (goes before tools), tools_in_user_message (true), add_generation_prompt
 * (true). Parts of type text, image, image_url. The role "developer" is read as "system". *chat must be
 * empty; on failure it is empty again. CRL_EFORMAT names the message that is wrong. */
enum crl_status crl_chat_from_json(struct crl_chat *chat, const json_t *doc, struct crl_err *err);

enum crl_seg_kind {
    CRL_SEG_CONTROL, /* the name of a control token */
    CRL_SEG_TEXT,
    CRL_SEG_IMAGE /* "<|image|>" for an image part */
};

struct crl_seg {
    enum crl_seg_kind kind;
    size_t len;       /* bytes of text.s, one segment after the other */
    size_t msg, part; /* of an image: which part of the conversation it is */
};

/* The rendering: text.s is what the template prints, segs cut it. Zeroed storage is empty. */
struct crl_render {
    struct crl_str text;
    struct crl_seg *segs; /* [n_seg] */
    size_t n_seg, cap_seg;
};

void crl_render_fini(struct crl_render *r);

/* CRL_ERANGE when there are tools but no message to print them in. */
enum crl_status crl_chat_render(const struct crl_chat *chat, struct crl_render *out, struct crl_err *err);

/* Append what the template prints. Not for tokenising: here a user's words can look like control tokens. */
enum crl_status crl_chat_text(const struct crl_chat *chat, struct crl_str *out, struct crl_err *err);

/* A prompt as ids. Each image stands as the one id of <|image|> at ids.v[images[i].pos]; what prepares images
 * replaces it by the tokens of its tiles. Zeroed storage is empty. */
struct crl_image_at {
    size_t pos;       /* in ids */
    size_t msg, part; /* the part of the conversation */
};

struct crl_prompt {
    struct crl_ids ids;
    struct crl_image_at *images; /* [n_image] by position */
    size_t n_image, cap_image;
};

void crl_prompt_fini(struct crl_prompt *p);

/* Append the conversation. CRL_ENOENT when the tokenizer lacks one of the control tokens. */
enum crl_status crl_chat_ids(const struct crl_chat *chat, const struct crl_tok *tok, struct crl_prompt *out,
                             struct crl_err *err);

#endif
