/* Fuzzing, by libFuzzer: everything that reads what comes from outside. The first byte says which reader gets the rest.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz.c -lsodium -o fuzz && ./fuzz tests/corpus
 *
 * What stands inside of an envelope is behind base64url, which a fuzzer does not find by itself: so it gets the inside, and the envelope is
 * made around it here.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "../tallystick.c"

#include <stdlib.h>

static struct tallystick storage;

/* The envelope around a header and a payload, with a signature of nobody. */
static unsigned char *wrap(const char *header, const unsigned char *payload, size_t size, size_t *wrapped)
{
    static const char symbols[] = URL_SYMBOLS;
    size_t header_size = strlen(header), part, place, used = 0;
    unsigned char *line = malloc((header_size + size) * 4 / 3 + 128);

    if (line == NULL)
        abort();
    for (part = 0; part < 3; part++) {
        static const unsigned char signature[64];
        const unsigned char *data = part == 0 ? (const unsigned char *)header : part == 1 ? payload : signature;
        size_t count = part == 0 ? header_size : part == 1 ? size : sizeof signature;
        unsigned long bits = 0;
        unsigned held = 0;

        for (place = 0; place < count; place++) {
            bits = (bits << 8 | data[place]) & 0xFFFFFF;
            for (held += 8; held >= 6;) {
                held -= 6;
                line[used++] = (unsigned char)symbols[bits >> held & 63];
            }
        }
        if (held > 0)
            line[used++] = (unsigned char)symbols[bits << (6 - held) & 63];
        if (part < 2)
            line[used++] = '.';
    }
    *wrapped = used;
    line = realloc(line, used); /* of its very own size, for the sanitizer */
    if (line == NULL)
        abort();
    return line;
}

static void *exact(const unsigned char *data, size_t size)
{
    void *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char root[] = "uZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZkAuZA", kid[] = "\",\"kid\":\"k\"}",
                      jwk[] = "\",\"jwk\":{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":"
                              "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}";
    static const char *const kinds[] = {"tally-answer+jwt", "tally-grant+jwt", "tally-keys+jwt", "tally-root+jwt"};
    tallystick *t = tallystick_init(&storage, sizeof storage);
    unsigned char *line;
    char header[256];
    size_t used, body;
    unsigned which;
    void *copy;

    if (size == 0 || t == NULL || !tallystick_add_root(t, root))
        return 0;
    which = data[0] % 8;
    data++;
    size--;
    copy = exact(data, size);
    if (which < 4) {
        (void)strcpy(header, "{\"alg\":\"EdDSA\",\"typ\":\"");
        (void)strcat(header, kinds[which]);
        (void)strcat(header, which == 0 ? jwk : kid);
        line = wrap(header, data, size, &used);
        if (which == 0) {
            (void)answer_read(line, used, t);
        } else if (which == 1) {
            (void)tallystick_verify(t, NULL, 0, line, used, root, 1800000000, "mqtt-client", 1);
            if (grant_read(line, used, t)) {
                struct tally tally = {"mqtt-client", 1800000000, 0, 0, 0, 0};

                if (!grant_claims(&t->grant, &tally) || tally.activated < 0 || tally.activated > INTEGER_MAX)
                    abort();
            }
        } else if (which == 2) {
            (void)tallystick_verify(t, line, used, NULL, 0, root, 1800000000, "mqtt-client", 1);
        } else if (used + 2 < PAYLOAD_MAX) {
            struct text compact;

            memcpy(t->payload, line, used);
            compact.at = t->payload;
            compact.size = used;
            (void)handover_read(compact, t, &t->keyset.handover[0]);
        }
        free(line);
    } else if (which == 4) {
        (void)tallystick_judge(t, copy, size, "q83vEjRWeJCrze8SNFZ4kA", "mqtt-client", 1);
    } else if (which == 5) {
        used = head_size(copy, size, 0);
        if (used > 0 && used <= HEAD_MAX && head_read(copy, used, &body) == NULL && body > BODY_MAX)
            abort();
    } else if (which == 6) {
        struct envelope envelope;

        (void)envelope_open(copy, size, t->payload, PAYLOAD_MAX, &envelope);
    } else {
        /* What was copied is text without escapes, cut at a whole code point. */
        char small[17];
        struct text text;
        struct json json;

        text.at = copy;
        text.size = size;
        text_copy(text, small, sizeof small);
        if (strlen(small) >= sizeof small)
            abort();
        (void)json_open(copy, size, &json);
        (void)envelope_header(copy, size, &t->grant.envelope);
    }
    free(copy);
    if (strcmp(t->code, LICENSED) == 0)
        abort(); /* nobody signed anything */
    return 0;
}
