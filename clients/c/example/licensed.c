/* A licensed program: asks whether a feature may run, and says what it found. What to build into firmware.
 *
 *     licensed SOCKET ROOT FEATURE [REQUIRED]
 *
 * It ends with 0 if the feature is licensed and with 1 if it is not, or nobody can say. A real program has ROOT as a constant in its
 * image, goes on without the feature where the answer is no, and asks again after some minutes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>

#include <tallystick.h>

static union {
    long long align;
    unsigned char bytes[TALLYSTICK_STORAGE_BYTES];
} storage;

int main(int count, char **words)
{
    tallystick *licenses = tallystick_init(&storage, sizeof storage);

    if (count < 4 || count > 5 || licenses == NULL) {
        fprintf(stderr, "usage: licensed SOCKET ROOT FEATURE [REQUIRED]\n");
        return 2;
    }
    if (!tallystick_add_root(licenses, words[2])) {
        fprintf(stderr, "licensed: a root is the 43 symbols of its fingerprint\n");
        return 2;
    }
    if (tallystick_check(licenses, words[1], words[3], count == 5 ? strtoll(words[4], NULL, 10) : 1)) {
        printf("%s: licensed, %lld in force\n", words[3], tallystick_activated(licenses));
        return 0;
    }
    printf("%s: not licensed: %s\n", words[3], tallystick_code(licenses));
    return 1;
}
