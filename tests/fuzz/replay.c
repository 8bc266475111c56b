/* replay.c - main() of the fuzz harnesses without a fuzzing engine: runs the property on each file named.
 *
 * The name of the input goes to stdout before the property sees it, so that the last line names the one that crashed.
 * Each input lies in memory of exactly its size: under the address sanitizer a read past its end is seen. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    long size;

    if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) {
        perror(path);
        if (f) fclose(f);
        return 1;
    }
    data = malloc(size ? (size_t)size : 1);
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s: cannot read %ld bytes\n", path, size);
        free(data);
        fclose(f);
        return 1;
    }
    fclose(f);
    printf("%s: %ld bytes\n", path, size);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int rc = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) rc |= replay(argv[i]);
    return rc;
}
