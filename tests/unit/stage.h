/* stage.h - copies of golden checkpoints in folders of their own, for tests that damage them.
 *
 * Everything here ends the test program on trouble: it is about the test's own files. Folders lie in the
 * current directory and are removed by stage_remove. */
#ifndef CRL_TEST_STAGE_H
#define CRL_TEST_STAGE_H

#include <stddef.h>

/* The folder tests/golden of the source. */
const char *stage_golden(void);

/* Copy case `name` (tests/golden/model/NAME, weights of another case included) into a fresh folder; its path
 * lives until stage_remove. */
char *stage_case(const char *name);
void stage_remove(char *folder);

/* Path of a file in the folder; the result is overwritten by the eighth call after this one. */
const char *stage_path(const char *folder, const char *file);
void stage_write(const char *folder, const char *file, const void *data, size_t len);

/* Set key to a JSON value in text_config (or at the top when there is none, or always when key starts with
 * '/'); value NULL removes it. */
void stage_config(const char *folder, const char *key, const char *value);

/* Edit model.safetensors. Offsets of the other tensors follow. */
void stage_drop(const char *folder, const char *tensor);
void stage_rename(const char *folder, const char *tensor, const char *to);
void stage_reshape(const char *folder, const char *tensor, const char *shape);
void stage_retype(const char *folder, const char *tensor, const char *dtype);
void stage_poke(const char *folder, const char *tensor, size_t offset, const void *data, size_t len);
void stage_add(const char *folder, const char *tensor, const char *dtype, const char *shape, size_t bytes);

#endif
