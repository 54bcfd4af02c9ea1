/* Every function with what it must not get: nothing but "no" may follow.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "tallystick.h"

#define ROOT "uZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZA"
#define NONCE "q83vEjRWeJCrze8SNFZ4kA"

static union {
    long long align;
    unsigned char bytes[TALLYSTICK_STORAGE_BYTES];
} storage;

static int failed;

static void expect(int holds, const char *what)
{
    if (!holds) {
        printf("not so: %s\n", what);
        failed = 1;
    }
}

int main(void)
{
    tallystick *t;
    tallystick_memory memory;
    char text[256], small[8], path[4096];
    int place;

    expect(strcmp(tallystick_version(), TALLYSTICK_VERSION) == 0, "the version");
    expect(tallystick_size() <= TALLYSTICK_STORAGE_BYTES, "the storage is enough");
    expect(tallystick_init(NULL, sizeof storage) == NULL, "no storage");
    expect(tallystick_init(&storage, tallystick_size() - 1) == NULL, "too little storage");
    expect(tallystick_init(storage.bytes + 1, sizeof storage - 1) == NULL, "storage that is not aligned");

    /* Storage that was never begun, and none at all. */
    memset(&storage, 0, sizeof storage);
    for (place = 0; place < 2; place++) {
        t = place == 0 ? NULL : (tallystick *)(void *)&storage;
        expect(tallystick_add_root(t, ROOT) == 0, "add_root");
        expect(tallystick_set_deadline(t, 1) == 0, "set_deadline");
        expect(tallystick_check(t, "/x", "f", 1) == 0, "check");
        expect(tallystick_judge(t, "", 0, NONCE, "f", 1) == 0, "judge");
        expect(tallystick_verify(t, NULL, 0, NULL, 0, ROOT, 0, "f", 1) == 0, "verify");
        expect(strcmp(tallystick_code(t), "check-wrong") == 0, "code");
        expect(tallystick_activated(t) == 0 && tallystick_expires(t) == 0, "activated");
        expect(tallystick_get_memory(t, &memory) == 0, "get_memory");
        expect(tallystick_set_memory(t, &memory) == 0, "set_memory");
    }

    t = tallystick_init(&storage, sizeof storage);
    expect(t != NULL, "init");
    expect(strcmp(tallystick_code(t), "check-wrong") == 0, "a code before the first check");
    expect(tallystick_check(t, "/x", "f", 1) == 0 && strcmp(tallystick_code(t), "check-wrong") == 0, "no root");
    expect(!tallystick_add_root(t, NULL) && !tallystick_add_root(t, "") && !tallystick_add_root(t, ROOT "A"), "no fingerprint");
    for (place = 0; place < 8; place++)
        expect(tallystick_add_root(t, ROOT), "eight roots");
    expect(!tallystick_add_root(t, ROOT), "nine roots");
    expect(!tallystick_set_deadline(t, 0) && !tallystick_set_deadline(t, -5), "a deadline in the past");
    expect(!tallystick_check(t, "/x", NULL, 1) && strcmp(tallystick_code(t), "check-wrong") == 0, "no feature");
    expect(!tallystick_check(t, "/x", "f", -1) && strcmp(tallystick_code(t), "check-wrong") == 0, "less than none");
    expect(!tallystick_check(t, NULL, "f", 1) && strcmp(tallystick_code(t), "agent-absent") == 0, "no path");
    expect(!tallystick_check(t, "", "f", 1) && strcmp(tallystick_code(t), "agent-absent") == 0, "an empty path");
    expect(!tallystick_check(t, "/", "f", 1) && strcmp(tallystick_code(t), "agent-absent") == 0, "a folder");
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = 0;
    expect(!tallystick_check(t, path, "f", 1) && strcmp(tallystick_code(t), "agent-absent") == 0, "a path that is too long");
    expect(!tallystick_judge(t, NULL, 1, NONCE, "f", 1) && strcmp(tallystick_code(t), "check-wrong") == 0, "no answer");
    expect(!tallystick_judge(t, "", 0, "short", "f", 1) && strcmp(tallystick_code(t), "check-wrong") == 0, "no nonce");
    expect(!tallystick_judge(t, "", 204801, NONCE, "f", 1) && strcmp(tallystick_code(t), "answer-too-large") == 0, "too large");
    expect(!tallystick_verify(t, NULL, 5, NULL, 5, ROOT, 0, "f", 1) && strcmp(tallystick_code(t), "not-licensed") == 0, "no files");
    expect(!tallystick_verify(t, NULL, 0, NULL, 0, NULL, 0, "f", 1) && strcmp(tallystick_code(t), "check-wrong") == 0, "no device");
    expect(tallystick_question(text, sizeof text, "f", 1000000000, NONCE) == (int)strlen(text), "a question");
    expect(strncmp(text, "GET /v1/check?feature=f&required=1000000000&nonce=" NONCE " HTTP/1.1\r\n", 83) == 0, "its first line");
    expect(!tallystick_question(small, sizeof small, "f", 1, NONCE), "a question that does not fit");
    expect(!tallystick_question(NULL, 0, "f", 1, NONCE), "a question for nobody");
    expect(!tallystick_question(text, sizeof text, "f f", 1, NONCE), "a question of no feature");
    expect(!tallystick_question(text, sizeof text, "f", 1, NONCE "\r\n"), "a nonce with more behind it");
    expect(!tallystick_get_memory(t, &memory), "nothing is remembered so far");
    memset(&memory, 'A', sizeof memory);
    expect(!tallystick_set_memory(t, &memory), "a device without an end");
    memset(&memory, 0, sizeof memory);
    expect(!tallystick_set_memory(t, &memory), "no device");
    memcpy(memory.device, ROOT, sizeof ROOT);
    expect(!tallystick_set_memory(t, &memory), "no epoch");
    memory.epoch = memory.number = 1;
    expect(tallystick_set_memory(t, &memory) && tallystick_get_memory(t, &memory), "a memory");
    expect(memory.epoch == 1 && strcmp(memory.device, ROOT) == 0, "the same memory");
    if (!failed)
        printf("ok\n");
    return failed;
}
