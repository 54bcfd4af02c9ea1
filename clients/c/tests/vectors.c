/* Runs checks as they come on standard input, one a line, and writes a line for each: what the tests and `tallystick
 * conformance client` drive. Fields are parted by spaces; bytes and texts are hexadecimal, `-` is none.
 *
 *     judge ROOTS MEMORY FEATURE REQUIRED NONCE ANSWER
 *     verify ROOTS MEMORY FEATURE REQUIRED DEVICE NOW KEYSET GRANT
 *     check ROOTS MEMORY FEATURE REQUIRED DEADLINE SOCKET
 *
 * ROOTS: parted by commas. MEMORY: DEVICE,EPOCH,NUMBER,MOMENT. The answer: CODE ACTIVATED MEMORY.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tallystick.h"

#define FIELDS_MAX 9
#define LINE_BYTES (4u * 1024 * 1024)

static union {
    long long align;
    unsigned char bytes[TALLYSTICK_STORAGE_BYTES];
} storage;

static char line[LINE_BYTES];

/* Hexadecimal to bytes, in place, with a zero behind them; the number of bytes. */
static size_t unhex(char *field)
{
    size_t used = 0, place;
    unsigned value;

    if (strcmp(field, "-") == 0) {
        field[0] = 0;
        return 0;
    }
    for (place = 0; field[place] != 0 && field[place + 1] != 0; place += 2) {
        char pair[3] = {field[place], field[place + 1], 0};

        value = (unsigned)strtoul(pair, NULL, 16);
        field[used++] = (char)value;
    }
    field[used] = 0;
    return used;
}

/* The bytes in memory of their very own size, so that a sanitizer sees a read behind their end. */
static void *exact(const char *bytes, size_t size)
{
    void *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, bytes, size);
    return copy;
}

static tallystick *begin(char *roots, char *memory)
{
    tallystick *t = tallystick_init(&storage, sizeof storage);
    tallystick_memory remembered;
    char *root;

    if (t == NULL)
        abort();
    if (strcmp(roots, "-") != 0)
        for (root = strtok(roots, ","); root != NULL; root = strtok(NULL, ","))
            if (!tallystick_add_root(t, root)) /* a program that names what is no root names none */
                return tallystick_init(&storage, sizeof storage);
    if (strcmp(memory, "-") != 0) {
        memset(&remembered, 0, sizeof remembered);
        if (sscanf(memory, "%43[^,],%lld,%lld,%lld", remembered.device, &remembered.epoch, &remembered.number,
                   &remembered.moment) != 4
            || !tallystick_set_memory(t, &remembered))
            abort();
    }
    return t;
}

static void report(const tallystick *t)
{
    tallystick_memory memory;

    printf("%s %lld ", tallystick_code(t), tallystick_activated(t));
    if (tallystick_get_memory(t, &memory))
        printf("%s,%lld,%lld,%lld\n", memory.device, memory.epoch, memory.number, memory.moment);
    else
        printf("-\n");
    fflush(stdout);
}

int main(void)
{
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *field[FIELDS_MAX + 1];
        int count = 0, licensed = 0;
        long long required;
        tallystick *t;

        for (field[0] = strtok(line, " \n"); field[count] != NULL && count < FIELDS_MAX; field[count] = strtok(NULL, " \n"))
            count++;
        if (count < 7) {
            fprintf(stderr, "a line of %d fields\n", count);
            return 2;
        }
        (void)unhex(field[3]);
        required = strtoll(field[4], NULL, 10);
        t = begin(field[1], field[2]);
        if (strcmp(field[0], "judge") == 0) {
            size_t size = unhex(field[6]);
            void *answer = exact(field[6], size);

            licensed = tallystick_judge(t, answer, size, field[5], field[3], required);
            free(answer);
        } else if (strcmp(field[0], "verify") == 0 && count == 9) {
            size_t keyset_size = unhex(field[7]), grant_size = unhex(field[8]);
            void *keyset = exact(field[7], keyset_size), *grant = exact(field[8], grant_size);

            licensed = tallystick_verify(t, keyset, keyset_size, grant, grant_size, field[5], strtoll(field[6], NULL, 10), field[3],
                                         required);
            free(keyset);
            free(grant);
        } else if (strcmp(field[0], "check") == 0) {
            (void)unhex(field[6]);
            (void)tallystick_set_deadline(t, atoi(field[5]));
            licensed = tallystick_check(t, field[6], field[3], required);
        } else {
            return 2;
        }
        if (licensed != (strcmp(tallystick_code(t), "licensed") == 0))
            abort();
        report(t);
    }
    return 0;
}
