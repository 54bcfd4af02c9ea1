/* Tallystick: may this feature run?
 *
 *     static union { long long align; unsigned char bytes[TALLYSTICK_STORAGE_BYTES]; } storage;
 *     tallystick *licenses = tallystick_init(&storage, sizeof storage);
 *
 *     tallystick_add_root(licenses, "uZkA...");                       (43 symbols: the vendor's root, built into the program)
 *     if (tallystick_check(licenses, "/run/tallystick/check.sock", "mqtt-client", 1))
 *         ...
 *     else
 *         log(tallystick_code(licenses));                              ("other-issuer", "expired", ...)
 *
 * A check never blocks beyond its deadline, never raises a signal, allocates nothing and believes nobody but the root that
 * the program names (docs/protocol/checks.md). Everything but 1 means "not licensed"; no control logic may depend on it.
 *
 * One `tallystick` is for one thread at a time; as many as you like may exist. There is no global state.
 *
 * What stands here stays: within version 1 no function changes its meaning, no structure its layout, no code its name, and
 * TALLYSTICK_STORAGE_BYTES is enough. Functions and codes may be added; treat a code that you do not know as "not licensed".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TALLYSTICK_H
#define TALLYSTICK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TALLYSTICK_VERSION_MAJOR 1
#define TALLYSTICK_VERSION_MINOR 0
#define TALLYSTICK_VERSION_PATCH 0
#define TALLYSTICK_VERSION "1.0.0"

/* Enough for a `tallystick`, in every version 1. */
#define TALLYSTICK_STORAGE_BYTES (384 * 1024)

/* Milliseconds for a whole check, where the program says nothing. */
#define TALLYSTICK_DEADLINE_DEFAULT 500

/* How many roots a program may name. */
#define TALLYSTICK_ROOTS_MAX 8

/* What a check comes to, in the order in which it is decided (docs/protocol/checks.md): compare with strcmp. */
#define TALLYSTICK_LICENSED "licensed"
#define TALLYSTICK_CHECK_WRONG "check-wrong"
#define TALLYSTICK_AGENT_ABSENT "agent-absent"
#define TALLYSTICK_AGENT_SILENT "agent-silent"
#define TALLYSTICK_AGENT_REFUSED "agent-refused"
#define TALLYSTICK_ANSWER_TOO_LARGE "answer-too-large"
#define TALLYSTICK_ANSWER_MALFORMED "answer-malformed"
#define TALLYSTICK_ANSWER_DIFFERS "answer-differs"
#define TALLYSTICK_ANSWER_FORGED "answer-forged"
#define TALLYSTICK_OTHER_ISSUER "other-issuer"
#define TALLYSTICK_KEYS_FORGED "keys-forged"
#define TALLYSTICK_NOT_LICENSED "not-licensed"
#define TALLYSTICK_GRANT_FORGED "grant-forged"
#define TALLYSTICK_OTHER_DEVICE "other-device"
#define TALLYSTICK_OLDER_GRANT "older-grant"
#define TALLYSTICK_EXPIRED "expired"
#define TALLYSTICK_TOO_FEW "too-few"

typedef struct tallystick tallystick;

/* What is remembered of a device: a program that keeps it over restarts takes no older grant after one. */
typedef struct tallystick_memory {
    char device[44];
    long long epoch, number, moment;
} tallystick_memory;

/* The version that runs, which may be another than the one that was compiled against. */
const char *tallystick_version(void);

/* How many bytes a `tallystick` really takes. */
size_t tallystick_size(void);

/* Makes a `tallystick` in the caller's storage, aligned as a long long. NULL if the storage is too small or not aligned.
 * There is nothing to give back afterwards. */
tallystick *tallystick_init(void *storage, size_t size);

/* Names the vendor's root: the 43 symbols of its fingerprint. Up to eight, while one is handed over to the next. 1, or 0 for
 * what is no fingerprint or one too many. */
int tallystick_add_root(tallystick *t, const char *fingerprint);

/* Milliseconds for a whole check. 1, or 0 for what is below 1. */
int tallystick_set_deadline(tallystick *t, int milliseconds);

/* Asks the agent behind the local socket for `required` units of `feature`. 1: licensed. 0: not, and tallystick_code says why. */
int tallystick_check(tallystick *t, const char *socket, const char *feature, long long required);

/* The same without an agent: the keyset and the grant as tally files of one envelope each, the device id (which the program must
 * know by itself) and the time in seconds since 1970. */
int tallystick_verify(tallystick *t, const void *keyset, size_t keyset_size, const void *grant, size_t grant_size,
                      const char *device, long long now, const char *feature, long long required);

/* For a program that carries question and answer by itself: the request for the socket, with its zero (its length; 0 if it does not
 * fit or something is not of the right form), and the decision over the body of the answer. `nonce`: 22 to 64 base64url symbols,
 * random and new for each question. */
int tallystick_question(char *target, size_t room, const char *feature, long long required, const char *nonce);
int tallystick_judge(tallystick *t, const void *answer, size_t size, const char *nonce, const char *feature, long long required);

/* Of the last check: its code ("licensed", or why not), never NULL. */
const char *tallystick_code(const tallystick *t);

/* Of the last check, if its code is licensed, too-few or expired: how many units are in force, and when the next license of the
 * feature ends (seconds since 1970; for expired: when the last one ended; 0: never). Else 0. */
long long tallystick_activated(const tallystick *t);
long long tallystick_expires(const tallystick *t);

/* What is remembered, to be kept over a restart and given back after it. 1, or 0 if there is nothing (or nothing sensible). */
int tallystick_get_memory(const tallystick *t, tallystick_memory *memory);
int tallystick_set_memory(tallystick *t, const tallystick_memory *memory);

#ifdef __cplusplus
}
#endif

#endif
