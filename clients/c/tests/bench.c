/* How much processor time a check takes in a program, for `make bench ROWS=B8`: SOCKET ROOT FEATURE REQUIRED COUNT. Writes the seconds
 * that all of them took of this process, and the code of the last one; they must all be the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tallystick.h"

static union {
    long long align;
    unsigned char bytes[TALLYSTICK_STORAGE_BYTES];
} storage;

static double seconds(void)
{
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **words)
{
    tallystick *t = tallystick_init(&storage, sizeof storage);
    const char *first = NULL;
    double begin;
    long left;

    if (count != 6 || t == NULL || !tallystick_add_root(t, words[2]) || !tallystick_set_deadline(t, 60000))
        return 2;
    begin = seconds();
    for (left = atol(words[5]); left > 0; left--) {
        (void)tallystick_check(t, words[1], words[3], atoll(words[4]));
        if (first == NULL)
            first = tallystick_code(t);
        if (strcmp(tallystick_code(t), first) != 0)
            return 1;
    }
    printf("%.6f %s\n", seconds() - begin, first == NULL ? "nothing" : first);
    return 0;
}
