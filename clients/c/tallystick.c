/* Tallystick: may this feature run? See tallystick.h and README.md.
 *
 * From the bottom up: texts and base64url, strict JSON, envelopes, keysets and grants, the decision (docs/protocol/checks.md;
 * the steps have its numbers), the socket. Nothing here allocates: the caller's storage holds the buffers. Every reader
 * returns 1 for what is as it must be and 0 for everything else.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* POSIX, and getrandom */
#endif

#include "tallystick.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#define ENVELOPE_MAX 65536u  /* bytes of one envelope */
#define PAYLOAD_MAX 49152u   /* of what is in it */
#define INNER_MAX 36864u     /* of what is in a hand-over, which is in a payload itself */
#define HEAD_MAX 4096u       /* of the head of a reply over HTTP */
#define BODY_MAX 204800u     /* of what comes after it */
#define NAMES_MAX 128u      /* members of one object, far above any that is known */
#define DEPTH_MAX 64u       /* of arrays and objects, far above any that is known */
#define KEYS_MAX 32u
#define HANDOVERS_MAX 16u
#define LICENSES_MAX 50u
#define FEATURES_MAX 8u
#define QUANTITY_MAX 1000000000
#define FEATURE_MAX 32u
#define INTEGER_MAX 9007199254740991
#define HASH_SYMBOLS 43u
#define SIGNATURE_SYMBOLS 86u

/* ---- Texts ------------------------------------------------------------------------------------------------------ */

/* Bytes of somebody else's buffer: inside of a JSON string, escapes and all. */
struct text {
    const unsigned char *at;
    size_t size;
};

static int hex_value(unsigned char symbol)
{
    if (symbol >= '0' && symbol <= '9')
        return symbol - '0';
    if (symbol >= 'a' && symbol <= 'f')
        return symbol - 'a' + 10;
    if (symbol >= 'A' && symbol <= 'F')
        return symbol - 'A' + 10;
    return -1;
}

/* The four hexadecimal digits of an escape, or -1. */
static long hex_unit(const unsigned char *at, size_t size)
{
    long unit = 0;
    size_t place;

    if (size < 4)
        return -1;
    for (place = 0; place < 4; place++) {
        int value = hex_value(at[place]);

        if (value < 0)
            return -1;
        unit = unit * 16 + value;
    }
    return unit;
}

/* The next code point of the inside of a JSON string: -1 at its end, -2 for what no JSON string may hold. Every byte of
 * it is checked here: UTF-8 without overlong forms and surrogates, escapes, surrogates in pairs. */
static long text_next(struct text *text)
{
    const unsigned char *at = text->at;
    size_t size = text->size, taken, place;
    long point, low;

    if (size == 0)
        return -1;
    if (at[0] < 0x20 || at[0] == '"')
        return -2;
    if (at[0] == '\\') {
        static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char *found;

        if (size < 2)
            return -2;
        if (at[1] != 'u') {
            found = at[1] == 0 ? NULL : strchr(escapes, at[1]);
            if (found == NULL)
                return -2;
            point = meant[found - escapes];
            taken = 2;
        } else {
            point = hex_unit(at + 2, size - 2);
            taken = 6;
            if (point < 0 || (point >= 0xDC00 && point <= 0xDFFF))
                return -2;
            if (point >= 0xD800 && point <= 0xDBFF) {
                if (size < 12 || at[6] != '\\' || at[7] != 'u')
                    return -2;
                low = hex_unit(at + 8, 4);
                if (low < 0xDC00 || low > 0xDFFF)
                    return -2;
                point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
                taken = 12;
            }
        }
    } else if (at[0] < 0x80) {
        point = at[0];
        taken = 1;
    } else {
        static const long least[] = {0, 0, 0x80, 0x800, 0x10000};

        taken = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
        if (at[0] < 0xC2 || at[0] > 0xF4 || size < taken)
            return -2;
        point = at[0] & (0x7F >> taken);
        for (place = 1; place < taken; place++) {
            if ((at[place] & 0xC0) != 0x80)
                return -2;
            point = (point << 6) | (at[place] & 0x3F);
        }
        if (point < least[taken] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
            return -2;
    }
    text->at += taken;
    text->size -= taken;
    return point;
}

/* Of texts that are valid. Without escapes, the same text is the same bytes. */
static int text_equal(struct text one, struct text other)
{
    if (one.size == other.size && memcmp(one.at, other.at, one.size) == 0)
        return 1;
    if (memchr(one.at, '\\', one.size) == NULL && memchr(other.at, '\\', other.size) == NULL)
        return 0;
    for (;;) {
        long a = text_next(&one), b = text_next(&other);

        if (a != b || a == -2)
            return 0;
        if (a == -1)
            return 1;
    }
}

static int text_is(struct text text, const char *word)
{
    struct text other;

    other.at = (const unsigned char *)word;
    other.size = strlen(word);
    return text_equal(text, other);
}

/* How many code points a text has, if each of them is in the alphabet (NULL: all but control characters); else 0. */
static size_t text_length(struct text text, const char *alphabet)
{
    size_t length = 0;
    long point;

    while ((point = text_next(&text)) >= 0) {
        if (alphabet == NULL ? point < 0x20 || point == 0x7F : point == 0 || point > 0x7E || !strchr(alphabet, (int)point))
            return 0;
        length++;
    }
    return length;
}

/* The text without its escapes and with a zero behind it, cut to what has room, never inside of a code point. */
static void text_copy(struct text text, char *target, size_t room)
{
    size_t used = 0, count;
    long point;

    while ((point = text_next(&text)) >= 0) {
        count = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        if (used + count >= room)
            break;
        if (count == 1) {
            target[used++] = (char)point;
            continue;
        }
        target[used++] = (char)(((0xF00 >> count) & 0xFF) | (point >> (6 * (count - 1))));
        while (--count > 0)
            target[used++] = (char)(0x80 | ((point >> (6 * (count - 1))) & 0x3F));
    }
    target[used] = 0;
}

#define DIGITS "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define URL_SYMBOLS LETTERS DIGITS "-_"
#define SKU_SYMBOLS LETTERS DIGITS "._-"
#define LINE_SYMBOLS DIGITS "ABCDEFGHJKMNPQRSTVWXYZ"

/* ---- base64url -------------------------------------------------------------------------------------------------- */

static int url_value(unsigned char symbol)
{
    if (symbol >= 'A' && symbol <= 'Z')
        return symbol - 'A';
    if (symbol >= 'a' && symbol <= 'z')
        return symbol - 'a' + 26;
    if (symbol >= '0' && symbol <= '9')
        return symbol - '0' + 52;
    if (symbol == '-')
        return 62;
    if (symbol == '_')
        return 63;
    return -1;
}

/* Decodes the one spelling that is allowed: no padding, no other symbol, unused bits zero. */
static int url_decode(const unsigned char *at, size_t size, unsigned char *target, size_t room, size_t *count)
{
    unsigned long bits = 0;
    unsigned held = 0;
    size_t place, used = 0;

    if (size % 4 == 1 || size / 4 * 3 + (size % 4 > 0 ? size % 4 - 1 : 0) > room)
        return 0;
    for (place = 0; place < size; place++) {
        int value = url_value(at[place]);

        if (value < 0)
            return 0;
        bits = (bits << 6 | (unsigned long)value) & 0xFFFFFF;
        held += 6;
        if (held >= 8) {
            held -= 8;
            target[used++] = (unsigned char)(bits >> held & 0xFF);
        }
    }
    if ((bits & ((1ul << held) - 1)) != 0)
        return 0;
    *count = used;
    return 1;
}

/* 32 bytes as 43 symbols and a zero. */
static void url_encode_hash(const unsigned char hash[32], char target[HASH_SYMBOLS + 1])
{
    static const char symbols[] = URL_SYMBOLS;
    unsigned long bits = 0;
    unsigned held = 0;
    size_t place, used = 0;

    for (place = 0; place < 32; place++) {
        bits = (bits << 8 | hash[place]) & 0xFFFFFF;
        held += 8;
        while (held >= 6) {
            held -= 6;
            target[used++] = symbols[bits >> held & 63];
        }
    }
    target[used++] = symbols[bits << (6 - held) & 63];
    target[used] = 0;
}

/* ---- Strict JSON ------------------------------------------------------------------------------------------------ */

struct json {
    const unsigned char *at, *end;
};

/* Names of the objects that are open, for the search for one that stands twice. */
struct names {
    const unsigned char *start;
    unsigned used;
    struct {
        uint32_t at, size;
    } name[NAMES_MAX];
};

static void json_space(struct json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r'))
        json->at++;
}

static int json_take(struct json *json, unsigned char symbol)
{
    json_space(json);
    if (json->at == json->end || *json->at != symbol)
        return 0;
    json->at++;
    return 1;
}

static int json_word(struct json *json, const char *word)
{
    size_t size = strlen(word);

    json_space(json);
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0)
        return 0;
    json->at += size;
    return 1;
}

/* A string; its inside is looked at by text_next. */
static int json_string(struct json *json, struct text *text)
{
    if (!json_take(json, '"'))
        return 0;
    text->at = json->at;
    while (json->at < json->end && *json->at != '"')
        json->at += *json->at == '\\' && json->end - json->at > 1 ? 2 : 1;
    if (json->at == json->end)
        return 0;
    text->size = (size_t)(json->at - text->at);
    json->at++;
    return 1;
}

/* A whole number as JSON writes it, from -(2^53 - 1) to 2^53 - 1. */
static int json_whole(struct json *json, int64_t *number)
{
    int is_negative;
    int64_t value = 0;

    json_space(json);
    is_negative = json->at < json->end && *json->at == '-';
    if (is_negative)
        json->at++;
    if (json->at == json->end || *json->at < '0' || *json->at > '9')
        return 0;
    if (*json->at == '0') {
        json->at++;
    } else {
        for (; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++) {
            value = value * 10 + (*json->at - '0');
            if (value > INTEGER_MAX)
                return 0;
        }
    }
    if (json->at < json->end && strchr(DIGITS ".eE", *json->at) != NULL && *json->at != 0)
        return 0;
    *number = is_negative ? -value : value;
    return 1;
}

/* A name, valid and not one of those that this object has already. */
static int json_name(struct json *json, struct names *names, unsigned first)
{
    struct text name, other;
    unsigned place;
    long point;

    if (!json_string(json, &name))
        return 0;
    other = name;
    while ((point = text_next(&other)) >= 0)
        ;
    if (point == -2)
        return 0;
    for (place = first; place < names->used; place++) {
        other.at = names->start + names->name[place].at;
        other.size = names->name[place].size;
        if (text_equal(name, other))
            return 0;
    }
    if (names->used == NAMES_MAX)
        return 0; /* no known kind has so many */
    names->name[names->used].at = (uint32_t)(name.at - names->start);
    names->name[names->used++].size = (uint32_t)name.size;
    return 1;
}

static int json_value(struct json *json, struct names *names, unsigned depth)
{
    struct text text;
    int64_t number;
    long point;
    unsigned first = names->used;
    unsigned char closing;

    if (depth == DEPTH_MAX)
        return 0;
    json_space(json);
    if (json->at == json->end)
        return 0;
    switch (*json->at) {
    case '"':
        if (!json_string(json, &text))
            return 0;
        while ((point = text_next(&text)) >= 0)
            ;
        return point == -1;
    case 't':
        return json_word(json, "true");
    case 'f':
        return json_word(json, "false");
    case 'n':
        return json_word(json, "null");
    case '{':
    case '[':
        closing = *json->at == '{' ? '}' : ']';
        json->at++;
        if (json_take(json, closing))
            return 1;
        do {
            if (closing == '}') {
                if (!json_name(json, names, first) || !json_take(json, ':'))
                    return 0;
            }
            if (!json_value(json, names, depth + 1))
                return 0;
        } while (json_take(json, ','));
        names->used = first;
        return json_take(json, closing);
    default:
        return json_whole(json, &number);
    }
}

/* The whole of `data` is one JSON value, and strict. What reads it afterwards need not look at its form again. */
static int json_open(const unsigned char *data, size_t size, struct json *json)
{
    struct names names;

    names.start = data;
    names.used = 0;
    json->at = data;
    json->end = data + size;
    if (!json_value(json, &names, 0))
        return 0;
    json_space(json);
    if (json->at != json->end)
        return 0;
    json->at = data;
    return 1;
}

/* Walks over the members of an object, or what is in an array: `json_take` of the opening symbol, then this before each;
 * `place` counts from 0. */
static int json_more(struct json *json, unsigned char closing, unsigned *place)
{
    if (json_take(json, closing))
        return 0;
    if ((*place)++ > 0)
        (void)json_take(json, ',');
    return 1;
}

static int json_member(struct json *json, unsigned *place, struct text *name)
{
    return json_more(json, '}', place) && json_string(json, name) && json_take(json, ':');
}

/* Claims by their types: each takes one value, and says whether it is as it must be. */

static int take_number(struct json *json, int64_t least, int64_t most, int64_t *number)
{
    return json_whole(json, number) && *number >= least && *number <= most;
}

static int take_moment(struct json *json, int64_t *moment)
{
    return take_number(json, -INTEGER_MAX, INTEGER_MAX, moment);
}

static int take_text(struct json *json, struct text *text)
{
    size_t length;

    if (!json_string(json, text))
        return 0;
    length = text_length(*text, NULL);
    return length >= 1 && length <= 128;
}

static int take_word(struct json *json, const char *alphabet, size_t least, size_t most, struct text *text)
{
    size_t length;

    if (!json_string(json, text))
        return 0;
    length = text_length(*text, alphabet);
    return length >= least && length <= most && length > 0;
}

static int take_hash(struct json *json, char target[HASH_SYMBOLS + 1])
{
    struct text text;

    if (!take_word(json, URL_SYMBOLS, HASH_SYMBOLS, HASH_SYMBOLS, &text))
        return 0;
    text_copy(text, target, HASH_SYMBOLS + 1);
    return 1;
}

static int take_flag(struct json *json, int *flag)
{
    *flag = json_word(json, "true");
    return *flag || json_word(json, "false");
}

/* A public key, in a header or as a claim. */
static int take_jwk(struct json *json, char x[HASH_SYMBOLS + 1])
{
    struct text name, value;
    unsigned char raw[crypto_sign_PUBLICKEYBYTES];
    unsigned place = 0, seen = 0;
    size_t count;

    if (!json_take(json, '{'))
        return 0;
    while (json_member(json, &place, &name)) {
        if (text_is(name, "crv") && json_string(json, &value) && text_is(value, "Ed25519"))
            seen |= 1;
        else if (text_is(name, "kty") && json_string(json, &value) && text_is(value, "OKP"))
            seen |= 2;
        else if (text_is(name, "x") && take_hash(json, x)
                 && url_decode((const unsigned char *)x, HASH_SYMBOLS, raw, sizeof raw, &count))
            seen |= 4;
        else
            return 0;
    }
    return seen == 7;
}

/* ---- Envelopes -------------------------------------------------------------------------------------------------- */

struct envelope {
    const unsigned char *compact;
    size_t size, signed_size;
    char typ[65], kid[65];     /* kid is empty where the message carries its own key */
    char x[HASH_SYMBOLS + 1];  /* and this one is empty where it has a kid */
    unsigned char signature[crypto_sign_BYTES];
    const unsigned char *payload;
    size_t payload_size;
};

static const char VISIBLE[] =
    "!\"#$%&'()*+,-./" DIGITS ":;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";

static int take_visible(struct json *json, char target[65])
{
    struct text text;

    if (!take_word(json, VISIBLE, 1, 64, &text))
        return 0;
    text_copy(text, target, 65);
    return 1;
}

static void thumbprint(const char x[HASH_SYMBOLS + 1], char target[HASH_SYMBOLS + 1])
{
    static const char before[] = "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"", after[] = "\"}";
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];

    (void)crypto_hash_sha256_init(&state);
    (void)crypto_hash_sha256_update(&state, (const unsigned char *)before, sizeof before - 1);
    (void)crypto_hash_sha256_update(&state, (const unsigned char *)x, HASH_SYMBOLS);
    (void)crypto_hash_sha256_update(&state, (const unsigned char *)after, sizeof after - 1);
    (void)crypto_hash_sha256_final(&state, hash);
    url_encode_hash(hash, target);
}

static int envelope_header(const unsigned char *data, size_t size, struct envelope *envelope)
{
    struct json json;
    struct text name, value;
    unsigned place = 0, seen = 0;

    if (!json_open(data, size, &json) || !json_take(&json, '{'))
        return 0;
    while (json_member(&json, &place, &name)) {
        if (text_is(name, "alg") && json_string(&json, &value) && (text_is(value, "EdDSA") || text_is(value, "Ed25519")))
            seen |= 1;
        else if (text_is(name, "typ") && take_visible(&json, envelope->typ))
            seen |= 2;
        else if (text_is(name, "kid") && take_visible(&json, envelope->kid))
            seen |= 4;
        else if (text_is(name, "jwk") && take_jwk(&json, envelope->x))
            seen |= 8;
        else
            return 0;
    }
    return seen == (1 | 2 | 4) || seen == (1 | 2 | 8);
}

/* Takes one line apart without believing it. What is in it comes to `buffer`, which has room for INNER_MAX or PAYLOAD_MAX. */
static int envelope_open(const unsigned char *line, size_t size, unsigned char *buffer, size_t room, struct envelope *envelope)
{
    size_t dots[2] = {0, 0}, place, count, found = 0;

    memset(envelope, 0, sizeof *envelope);
    if (size > ENVELOPE_MAX)
        return 0;
    for (place = 0; place < size; place++) {
        if (line[place] == '.') {
            if (found == 2)
                return 0;
            dots[found++] = place;
        }
    }
    if (found != 2 || size - dots[1] - 1 != SIGNATURE_SYMBOLS)
        return 0;
    envelope->compact = line;
    envelope->size = size;
    envelope->signed_size = dots[1];
    envelope->payload = buffer;
    return url_decode(line + dots[1] + 1, SIGNATURE_SYMBOLS, envelope->signature, sizeof envelope->signature, &count)
           && url_decode(line, dots[0], buffer, room, &count) && envelope_header(buffer, count, envelope)
           && url_decode(line + dots[0] + 1, dots[1] - dots[0] - 1, buffer, room, &envelope->payload_size);
}

/* Whether the key with this `x` signed it. A key that is no point of the curve, or of small order, signed nothing. */
static int envelope_fits(const struct envelope *envelope, const char *x)
{
    unsigned char key[crypto_sign_PUBLICKEYBYTES];
    size_t count;

    return url_decode((const unsigned char *)x, HASH_SYMBOLS, key, sizeof key, &count)
           && crypto_sign_verify_detached(envelope->signature, envelope->compact, envelope->signed_size, key) == 0;
}

/* Whether the key with this `x` signed it, and it names this key. */
static int envelope_names(const struct envelope *envelope, const char *x)
{
    char kid[HASH_SYMBOLS + 1];

    thumbprint(x, kid);
    return strcmp(envelope->kid, kid) == 0 && envelope_fits(envelope, x);
}

static void envelope_digest(const struct envelope *envelope, char target[HASH_SYMBOLS + 1])
{
    unsigned char hash[crypto_hash_sha256_BYTES];

    (void)crypto_hash_sha256(hash, envelope->compact, envelope->size);
    url_encode_hash(hash, target);
}

/* ---- What the envelopes say ------------------------------------------------------------------------------------- */

#define ISSUER_BYTES (128 * 4 + 1)

struct answer {
    char device[HASH_SYMBOLS + 1], grant[HASH_SYMBOLS + 1], keys[HASH_SYMBOLS + 1]; /* the last two empty for null */
    int64_t issued_at, time_seen, epoch, required;
    char nonce[65], feature[FEATURE_MAX + 1];
    int is_forged; /* as far as it is seen from itself: step 8 */
};

struct key {
    char x[HASH_SYMBOLS + 1];
    int64_t valid_from, valid_until;
    int is_endless;
};

struct handover {
    char issuer[ISSUER_BYTES], root[HASH_SYMBOLS + 1], successor[HASH_SYMBOLS + 1];
    int64_t version;
    int is_forged;
};

struct keyset {
    char issuer[ISSUER_BYTES], root[HASH_SYMBOLS + 1], digest[HASH_SYMBOLS + 1];
    int64_t version;
    unsigned key_count, handover_count;
    struct key key[KEYS_MAX];
    struct handover handover[HANDOVERS_MAX];
    int is_checked, is_forged; /* step 10; checked before, byte for byte the same */
};

struct grant {
    char issuer[ISSUER_BYTES], device[HASH_SYMBOLS + 1], digest[HASH_SYMBOLS + 1];
    int64_t issued_at, epoch, number;
    struct envelope envelope;
};

/* What the licenses of a grant come to for one feature, at one moment. */
struct tally {
    const char *feature;
    int64_t moment, activated, expires; /* `expires`: the next end of those in force, or the last of those that are over; 0: none */
    unsigned in_force, over;
};

struct memory {
    char device[HASH_SYMBOLS + 1];
    int64_t epoch, number, moment;
};

struct tallystick {
    uint32_t mark;
    int deadline;
    unsigned root_count;
    char roots[TALLYSTICK_ROOTS_MAX][HASH_SYMBOLS + 1];
    struct memory memory;
    /* What was checked before need not be checked again, byte for byte the same: a keyset, and a grant under it. */
    char checked_keys[HASH_SYMBOLS + 1], checked_grant[HASH_SYMBOLS + 1];
    /* The last result. */
    const char *code;
    int64_t activated, expires;
    /* Room to work in. */
    struct answer answer;
    struct keyset keyset;
    struct grant grant;
    unsigned char payload[PAYLOAD_MAX], inner[INNER_MAX], reply[HEAD_MAX + BODY_MAX];
};

static int answer_read(const unsigned char *line, size_t size, struct tallystick *t)
{
    struct answer *answer = &t->answer;
    struct envelope envelope;
    struct json json;
    struct text name, text;
    char device[HASH_SYMBOLS + 1];
    unsigned place = 0, seen = 0;

    memset(answer, 0, sizeof *answer);
    if (!envelope_open(line, size, t->payload, PAYLOAD_MAX, &envelope) || strcmp(envelope.typ, "tally-answer+jwt") != 0
        || envelope.x[0] == 0 || !json_open(envelope.payload, envelope.payload_size, &json) || !json_take(&json, '{'))
        return 0;
    while (json_member(&json, &place, &name)) {
        if (text_is(name, "iss") && take_hash(&json, answer->device)) {
            seen |= 1;
        } else if (text_is(name, "nonce") && take_word(&json, URL_SYMBOLS, 22, 64, &text)) {
            text_copy(text, answer->nonce, sizeof answer->nonce);
            seen |= 2;
        } else if (text_is(name, "iat") && take_moment(&json, &answer->issued_at)) {
            seen |= 4;
        } else if (text_is(name, "time_seen") && take_moment(&json, &answer->time_seen)) {
            seen |= 8;
        } else if (text_is(name, "epoch") && take_number(&json, 1, INTEGER_MAX, &answer->epoch)) {
            seen |= 16;
        } else if (text_is(name, "feature") && take_word(&json, SKU_SYMBOLS, 1, FEATURE_MAX, &text)) {
            text_copy(text, answer->feature, sizeof answer->feature);
            seen |= 32;
        } else if (text_is(name, "required") && take_number(&json, 0, QUANTITY_MAX, &answer->required)) {
            seen |= 64;
        } else if (text_is(name, "grant") && (json_word(&json, "null") || take_hash(&json, answer->grant))) {
            seen |= 128;
        } else if (text_is(name, "keys") && (json_word(&json, "null") || take_hash(&json, answer->keys))) {
            seen |= 256;
        } else {
            return 0;
        }
    }
    if (seen != 511 || (answer->keys[0] == 0 && answer->grant[0] != 0))
        return 0;
    thumbprint(envelope.x, device);
    answer->is_forged = strcmp(device, answer->device) != 0 || !envelope_fits(&envelope, envelope.x);
    return 1;
}

/* A hand-over inside of a keyset: a string, in which any symbol may be written as an escape. */
static int handover_read(struct text compact, struct tallystick *t, struct handover *handover)
{
    /* Without escapes it stands in the payload as it is. With them it gets shorter, so that it can take its own place. */
    unsigned char *line = t->payload + (compact.at - t->payload);
    struct envelope envelope;
    struct json json;
    struct text name, text;
    int64_t ignored;
    unsigned place = 0, seen = 0;
    size_t size = 0;
    long point;

    while ((point = text_next(&compact)) >= 0)
        line[size++] = point < 0x80 ? (unsigned char)point : '?';
    if (!envelope_open(line, size, t->inner, INNER_MAX, &envelope) || strcmp(envelope.typ, "tally-root+jwt") != 0
        || envelope.kid[0] == 0 || !json_open(envelope.payload, envelope.payload_size, &json) || !json_take(&json, '{'))
        return 0;
    while (json_member(&json, &place, &name)) {
        if (text_is(name, "iss") && take_text(&json, &text)) {
            text_copy(text, handover->issuer, sizeof handover->issuer);
            seen |= 1;
        } else if (text_is(name, "version") && take_number(&json, 1, INTEGER_MAX, &handover->version)) {
            seen |= 2;
        } else if (text_is(name, "iat") && take_moment(&json, &ignored)) {
            seen |= 4;
        } else if (text_is(name, "root") && take_jwk(&json, handover->root)) {
            seen |= 8;
        } else if (text_is(name, "successor") && take_jwk(&json, handover->successor)) {
            seen |= 16;
        } else {
            return 0;
        }
    }
    if (seen != 31)
        return 0;
    handover->is_forged = strcmp(handover->root, handover->successor) == 0
                          || (!t->keyset.is_checked && !envelope_names(&envelope, handover->root));
    return 1;
}

static int key_read(struct json *json, struct key *key)
{
    struct text name;
    unsigned place = 0, seen = 0;

    memset(key, 0, sizeof *key);
    key->is_endless = 1;
    if (!json_take(json, '{'))
        return 0;
    while (json_member(json, &place, &name)) {
        if (text_is(name, "jwk") && take_jwk(json, key->x)) {
            seen |= 1;
        } else if (text_is(name, "valid_from") && take_moment(json, &key->valid_from)) {
            seen |= 2;
        } else if (text_is(name, "valid_until")) {
            key->is_endless = json_word(json, "null");
            if (!key->is_endless && !take_moment(json, &key->valid_until))
                return 0;
        } else {
            return 0;
        }
    }
    return seen == 3;
}

static int keyset_read(const unsigned char *line, size_t size, struct tallystick *t)
{
    struct keyset *keyset = &t->keyset;
    struct envelope envelope;
    struct json json;
    struct text name, text;
    int64_t ignored;
    unsigned place = 0, inner, seen = 0;

    memset(keyset, 0, sizeof *keyset);
    if (!envelope_open(line, size, t->payload, PAYLOAD_MAX, &envelope) || strcmp(envelope.typ, "tally-keys+jwt") != 0
        || envelope.kid[0] == 0 || !json_open(envelope.payload, envelope.payload_size, &json) || !json_take(&json, '{'))
        return 0;
    envelope_digest(&envelope, keyset->digest);
    keyset->is_checked = strcmp(keyset->digest, t->checked_keys) == 0;
    while (json_member(&json, &place, &name)) {
        inner = 0;
        if (text_is(name, "iss") && take_text(&json, &text)) {
            text_copy(text, keyset->issuer, sizeof keyset->issuer);
            seen |= 1;
        } else if (text_is(name, "version") && take_number(&json, 1, INTEGER_MAX, &keyset->version)) {
            seen |= 2;
        } else if (text_is(name, "iat") && take_moment(&json, &ignored)) {
            seen |= 4;
        } else if (text_is(name, "root") && take_jwk(&json, keyset->root)) {
            seen |= 8;
        } else if (text_is(name, "keys") && json_take(&json, '[')) {
            while (json_more(&json, ']', &inner))
                if (inner > KEYS_MAX || !key_read(&json, &keyset->key[inner - 1]))
                    return 0;
            if (inner == 0)
                return 0;
            keyset->key_count = inner;
            seen |= 16;
        } else if (text_is(name, "handovers") && json_take(&json, '[')) {
            while (json_more(&json, ']', &inner))
                if (inner > HANDOVERS_MAX || !json_string(&json, &text)
                    || !handover_read(text, t, &keyset->handover[inner - 1]))
                    return 0;
            keyset->handover_count = inner;
        } else {
            return 0;
        }
    }
    if (seen != 31)
        return 0;
    keyset->is_forged = !keyset->is_checked && !envelope_names(&envelope, keyset->root);
    for (place = 0; place < keyset->handover_count; place++) {
        const struct handover *handover = &keyset->handover[place];
        int is_last = place + 1 == keyset->handover_count;

        if (handover->is_forged || strcmp(handover->issuer, keyset->issuer) != 0
            || strcmp(handover->successor, is_last ? keyset->root : handover[1].root) != 0
            || (is_last ? handover->version > keyset->version : handover->version >= handover[1].version))
            keyset->is_forged = 1;
    }
    return 1;
}

/* The features of one license: adds up what counts for the tally's feature; -1 where they are not as they must be. */
static int64_t features_read(struct json *json, const char *feature)
{
    struct text name;
    int64_t number, count = 0;
    unsigned place = 0;
    size_t length;

    if (!json_take(json, '{'))
        return -1;
    while (json_member(json, &place, &name)) {
        length = text_length(name, SKU_SYMBOLS);
        if (place > FEATURES_MAX || length < 1 || length > FEATURE_MAX || !take_number(json, 1, QUANTITY_MAX, &number))
            return -1;
        if (text_is(name, feature))
            count = number;
    }
    return count;
}

static int license_read(struct json *json, struct tally *tally)
{
    struct text name, text;
    int64_t quantity = 0, count = 0, expires = 0;
    unsigned place = 0, seen = 0, length = 0;
    int flag, is_endless = 0;

    if (!json_take(json, '{'))
        return 0;
    while (json_member(json, &place, &name)) {
        if (text_is(name, "license") && json_string(json, &text)) {
            while (text_next(&text) >= 0)
                length++;
            if (length > 64)
                return 0;
            seen |= 1;
        } else if (text_is(name, "line") && take_word(json, LINE_SYMBOLS, 8, 8, &text)) {
            seen |= 2;
        } else if (text_is(name, "product") && take_word(json, SKU_SYMBOLS, 1, 40, &text)) {
            seen |= 4;
        } else if (text_is(name, "quantity") && take_number(json, 1, QUANTITY_MAX, &quantity)) {
            seen |= 8;
        } else if (text_is(name, "features") && (count = features_read(json, tally->feature)) >= 0) {
            seen |= 16;
        } else if (text_is(name, "expires")) {
            is_endless = json_word(json, "null");
            if (!is_endless && !take_moment(json, &expires))
                return 0;
            seen |= 32;
        } else if (text_is(name, "one_carry") && take_flag(json, &flag)) {
            seen |= 64;
        } else if (text_is(name, "engineering") && take_flag(json, &flag)) {
            continue;
        } else {
            return 0;
        }
    }
    if (seen != 127)
        return 0;
    if (count == 0)
        return 1;
    if (!is_endless && expires <= tally->moment) {
        if (tally->in_force == 0 && (tally->over == 0 || expires > tally->expires))
            tally->expires = expires;
        tally->over++;
        return 1;
    }
    if (tally->in_force == 0)
        tally->expires = 0;
    if (!is_endless && (tally->expires == 0 || expires < tally->expires))
        tally->expires = expires;
    tally->in_force++;
    count *= quantity; /* at most 10^18 */
    tally->activated = count > INTEGER_MAX - tally->activated ? INTEGER_MAX : tally->activated + count;
    return 1;
}

static int grant_claims(struct grant *grant, struct tally *tally)
{
    struct json json;
    struct text name, text;
    char digest[HASH_SYMBOLS + 1];
    int64_t seen_number;
    unsigned place = 0, inner, seen = 0;
    int flag;

    if (!json_open(grant->envelope.payload, grant->envelope.payload_size, &json) || !json_take(&json, '{'))
        return 0;
    while (json_member(&json, &place, &name)) {
        inner = 0;
        if (text_is(name, "iss") && take_text(&json, &text)) {
            text_copy(text, grant->issuer, sizeof grant->issuer);
            seen |= 1;
        } else if (text_is(name, "sub") && take_hash(&json, grant->device)) {
            seen |= 2;
        } else if (text_is(name, "iat") && take_moment(&json, &grant->issued_at)) {
            seen |= 4;
        } else if (text_is(name, "epoch") && take_number(&json, 1, INTEGER_MAX, &grant->epoch)) {
            seen |= 8;
        } else if (text_is(name, "number") && take_number(&json, 1, INTEGER_MAX, &grant->number)) {
            seen |= 16;
        } else if (text_is(name, "request") && (json_word(&json, "null") || take_hash(&json, digest))) {
            seen |= 32;
        } else if (text_is(name, "seen") && take_number(&json, 0, INTEGER_MAX, &seen_number)) {
            seen |= 64;
        } else if (text_is(name, "licenses") && json_take(&json, '[')) {
            while (json_more(&json, ']', &inner))
                if (inner > LICENSES_MAX || !license_read(&json, tally))
                    return 0;
            seen |= 128;
        } else if (text_is(name, "confirm") && take_flag(&json, &flag)) {
            seen |= 256;
        } else {
            return 0;
        }
    }
    return seen == 511;
}

/* The grant. What is in it stays in `payload`, so it is the last envelope to be read. */
static int grant_read(const unsigned char *line, size_t size, struct tallystick *t)
{
    struct grant *grant = &t->grant;
    struct tally tally;

    memset(grant, 0, sizeof *grant);
    memset(&tally, 0, sizeof tally);
    tally.feature = "";
    if (!envelope_open(line, size, t->payload, PAYLOAD_MAX, &grant->envelope)
        || strcmp(grant->envelope.typ, "tally-grant+jwt") != 0 || grant->envelope.kid[0] == 0
        || !grant_claims(grant, &tally))
        return 0;
    envelope_digest(&grant->envelope, grant->digest);
    return 1;
}

/* ---- The decision ----------------------------------------------------------------------------------------------- */

/* What is asked, and what stands for the agent's word where there is none. */
struct question {
    const char *feature, *device;
    int64_t required, moment;
    int64_t epoch; /* 0 without an agent */
};

static const char LICENSED[] = TALLYSTICK_LICENSED;
static const char CHECK_WRONG[] = TALLYSTICK_CHECK_WRONG;
static const char AGENT_ABSENT[] = TALLYSTICK_AGENT_ABSENT;
static const char AGENT_SILENT[] = TALLYSTICK_AGENT_SILENT;
static const char AGENT_REFUSED[] = TALLYSTICK_AGENT_REFUSED;
static const char ANSWER_TOO_LARGE[] = TALLYSTICK_ANSWER_TOO_LARGE;
static const char ANSWER_MALFORMED[] = TALLYSTICK_ANSWER_MALFORMED;
static const char ANSWER_DIFFERS[] = TALLYSTICK_ANSWER_DIFFERS;
static const char ANSWER_FORGED[] = TALLYSTICK_ANSWER_FORGED;
static const char OTHER_ISSUER[] = TALLYSTICK_OTHER_ISSUER;
static const char KEYS_FORGED[] = TALLYSTICK_KEYS_FORGED;
static const char GRANT_FORGED[] = TALLYSTICK_GRANT_FORGED;
static const char OTHER_DEVICE[] = TALLYSTICK_OTHER_DEVICE;
static const char OLDER_GRANT[] = TALLYSTICK_OLDER_GRANT;
static const char NOT_LICENSED[] = TALLYSTICK_NOT_LICENSED;
static const char EXPIRED[] = TALLYSTICK_EXPIRED;
static const char TOO_FEW[] = TALLYSTICK_TOO_FEW;

static int is_word(const char *word, const char *alphabet, size_t least, size_t most)
{
    size_t size;

    if (word == NULL)
        return 0;
    for (size = 0; size <= most && word[size] != 0; size++)
        if (strchr(alphabet, word[size]) == NULL)
            return 0;
    return size >= least && size <= most;
}

/* Step 1. */
static int is_question(const struct tallystick *t, const char *feature, long long required)
{
    return t->root_count > 0 && is_word(feature, SKU_SYMBOLS, 1, FEATURE_MAX) && required >= 0 && required <= QUANTITY_MAX;
}

/* The next envelope of a tally file: 1 if there is one, 0 at the end, -1 for a line that is too long to be one. */
static int next_line(const unsigned char **at, size_t *left, const unsigned char **line, size_t *size)
{
    while (*left > 0) {
        const unsigned char *start = *at, *end = memchr(start, '\n', *left);
        size_t length = end == NULL ? *left : (size_t)(end - start), whole = length;

        *at += end == NULL ? length : length + 1;
        *left -= end == NULL ? length : length + 1;
        if (length >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0) {
            start += 3;
            length -= 3;
        }
        if (whole <= ENVELOPE_MAX) {
            while (length > 0 && (start[0] == ' ' || start[0] == '\t' || start[0] == '\r')) {
                start++;
                length--;
            }
            while (length > 0 && (start[length - 1] == ' ' || start[length - 1] == '\t' || start[length - 1] == '\r'))
                length--;
        }
        if (length == 0 || start[0] == '#')
            continue;
        *line = start;
        *size = length;
        return whole > ENVELOPE_MAX ? -1 : 1;
    }
    return 0;
}

/* Step 9. */
static int is_named(const struct tallystick *t)
{
    unsigned place, root;
    char print[HASH_SYMBOLS + 1];

    for (place = 0; place <= t->keyset.handover_count; place++) {
        thumbprint(place == t->keyset.handover_count ? t->keyset.root : t->keyset.handover[place].root, print);
        for (root = 0; root < t->root_count; root++)
            if (strcmp(print, t->roots[root]) == 0)
                return 1;
    }
    return 0;
}

/* Step 12. */
static int is_granted(const struct tallystick *t)
{
    const struct grant *grant = &t->grant;
    unsigned place;
    char kid[HASH_SYMBOLS + 1];

    for (place = 0; place < t->keyset.key_count; place++) {
        const struct key *key = &t->keyset.key[place];

        thumbprint(key->x, kid);
        if (strcmp(kid, grant->envelope.kid) != 0)
            continue;
        return strcmp(grant->issuer, t->keyset.issuer) == 0 && key->valid_from <= grant->issued_at
               && (key->is_endless || grant->issued_at < key->valid_until)
               && ((t->keyset.is_checked && strcmp(grant->digest, t->checked_grant) == 0)
                   || envelope_fits(&grant->envelope, key->x));
    }
    return 0;
}

/* Steps 9 to 16. The grant was read last: what is in it is in `payload`. */
static const char *decide(struct tallystick *t, const struct question *question, int has_keyset, int has_grant)
{
    struct memory *memory = &t->memory;
    struct tally tally;
    int is_known, is_same;

    if (has_keyset) {
        if (!is_named(t))
            return OTHER_ISSUER;
        if (t->keyset.is_forged)
            return KEYS_FORGED;
        if (!t->keyset.is_checked) {
            memcpy(t->checked_keys, t->keyset.digest, sizeof t->checked_keys);
            t->checked_grant[0] = 0;
        }
    }
    if (!has_grant)
        return NOT_LICENSED;
    if (!is_granted(t))
        return GRANT_FORGED;
    memcpy(t->checked_grant, t->grant.digest, sizeof t->checked_grant);
    if (strcmp(t->grant.device, question->device) != 0)
        return OTHER_DEVICE;
    is_known = strcmp(memory->device, question->device) == 0;
    if ((question->epoch != 0 && question->epoch != t->grant.epoch)
        || (is_known
            && (t->grant.epoch < memory->epoch || (t->grant.epoch == memory->epoch && t->grant.number < memory->number))))
        return OLDER_GRANT;
    is_same = is_known && t->grant.epoch == memory->epoch && t->grant.number == memory->number;
    memset(&tally, 0, sizeof tally);
    tally.feature = question->feature;
    tally.moment = is_same && memory->moment > question->moment ? memory->moment : question->moment;
    memcpy(memory->device, t->grant.device, sizeof memory->device);
    memory->epoch = t->grant.epoch;
    memory->number = t->grant.number;
    memory->moment = tally.moment;
    if (!grant_claims(&t->grant, &tally))
        return GRANT_FORGED; /* cannot be: it was read before */
    t->activated = tally.activated;
    t->expires = tally.expires;
    if (tally.in_force == 0)
        return tally.over > 0 ? EXPIRED : NOT_LICENSED;
    return tally.activated < question->required ? TOO_FEW : LICENSED;
}

/* Steps 6 to 16, over the body of an answer. */
static const char *judge(struct tallystick *t, const unsigned char *body, size_t size, const char *nonce, const char *feature,
                         int64_t required)
{
    const unsigned char *line[4];
    size_t line_size[4];
    struct question question;
    struct answer *answer = &t->answer;
    unsigned count = 0;
    int found, has_grant, has_keyset;

    while ((found = next_line(&body, &size, &line[count], &line_size[count])) == 1)
        if (++count > 3)
            return ANSWER_MALFORMED;
    if (found != 0 || count == 0 || !answer_read(line[0], line_size[0], t))
        return ANSWER_MALFORMED;
    has_grant = answer->grant[0] != 0;
    has_keyset = answer->keys[0] != 0;
    if (count != 1u + (unsigned)has_grant + (unsigned)has_keyset
        || (has_keyset && !keyset_read(line[count - 1], line_size[count - 1], t))
        || (has_grant && !grant_read(line[1], line_size[1], t)))
        return ANSWER_MALFORMED;
    if (strcmp(answer->nonce, nonce) != 0 || strcmp(answer->feature, feature) != 0 || answer->required != required)
        return ANSWER_DIFFERS;
    if (answer->is_forged || (has_keyset && strcmp(answer->keys, t->keyset.digest) != 0)
        || (has_grant && strcmp(answer->grant, t->grant.digest) != 0))
        return ANSWER_FORGED;
    question.feature = feature;
    question.required = required;
    question.device = answer->device;
    question.moment = answer->time_seen > answer->issued_at ? answer->time_seen : answer->issued_at;
    question.epoch = answer->epoch;
    return decide(t, &question, has_keyset, has_grant);
}

/* ---- The socket ------------------------------------------------------------------------------------------------- */

static int64_t milliseconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket is ready, or the deadline has come (0). */
static int wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd one;
        int64_t left = deadline - milliseconds();
        int ready;

        if (left <= 0)
            return 0;
        one.fd = fd;
        one.events = events;
        one.revents = 0;
        ready = poll(&one, 1, left > 1000000 ? 1000000 : (int)left);
        if (ready > 0)
            return 1;
        if (ready < 0 && errno != EINTR)
            return 0;
    }
}

/* A connection, or the code why there is none. */
static const char *connect_to(const char *path, int64_t deadline, int *fd)
{
    struct sockaddr_un address;
    size_t size = path == NULL ? 0 : strlen(path);
    int flags;

    if (size == 0 || size >= sizeof address.sun_path)
        return AGENT_ABSENT;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, size + 1);
    *fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (*fd < 0)
        return AGENT_ABSENT;
    flags = fcntl(*fd, F_GETFL);
    if (flags < 0 || fcntl(*fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(*fd, F_SETFD, FD_CLOEXEC) != 0) {
        (void)close(*fd);
        return AGENT_ABSENT;
    }
    while (connect(*fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EISCONN)
            break;
        /* EAGAIN: more programs ask than the agent has taken so far; its queue moves. */
        if (errno == EAGAIN || errno == EINTR || errno == EINPROGRESS || errno == EALREADY) {
            if (milliseconds() >= deadline) {
                (void)close(*fd);
                return AGENT_SILENT;
            }
            if (errno != EINTR)
                (void)poll(NULL, 0, 1);
            continue;
        }
        (void)close(*fd);
        return AGENT_ABSENT;
    }
    return NULL;
}

static const char *send_all(int fd, const char *request, size_t size, int64_t deadline)
{
    while (size > 0) {
        ssize_t sent = send(fd, request, size, MSG_NOSIGNAL);

        if (sent > 0) {
            request += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!wait_for(fd, POLLOUT, deadline))
                return AGENT_SILENT;
        } else if (sent < 0 && errno != EINTR) {
            /* It closed without reading. What it may have said before stands in the socket still. */
            return NULL;
        }
    }
    return NULL;
}

static int lower(unsigned char symbol)
{
    return symbol >= 'A' && symbol <= 'Z' ? symbol + ('a' - 'A') : symbol;
}

static int is_header(const unsigned char *line, size_t size, const char *name)
{
    size_t place, length = strlen(name);

    if (size <= length || line[length] != ':')
        return 0;
    for (place = 0; place < length; place++)
        if (lower(line[place]) != name[place])
            return 0;
    return 1;
}

/* Where the line behind this one begins; each ends with CR LF, the last one of a head, too. */
static const unsigned char *next_header(const unsigned char *line, const unsigned char *end)
{
    while (end - line > 1 && memcmp(line, "\r\n", 2) != 0)
        line++;
    return end - line > 1 ? line + 2 : end;
}

/* The head of a reply, up to and with its empty line: the status, and how many bytes come after it. */
static const char *head_read(const unsigned char *head, size_t size, size_t *body)
{
    const unsigned char *line = head, *end = head + size, *after;
    int has_length = 0;

    *body = 0;
    if (size < 15 || memcmp(head, "HTTP/1.", 7) != 0 || (head[7] != '0' && head[7] != '1') || head[8] != ' '
        || (head[12] != ' ' && memcmp(head + 12, "\r\n", 2) != 0))
        return ANSWER_MALFORMED;
    for (line = head + 9; line < head + 12; line++)
        if (*line < '0' || *line > '9')
            return ANSWER_MALFORMED;
    if (memcmp(head + 9, "200", 3) != 0)
        return AGENT_REFUSED;
    for (line = next_header(line, end); line < end; line = after) {
        size_t length;

        after = next_header(line, end);
        length = (size_t)(after - line) - 2;
        if (is_header(line, length, "transfer-encoding"))
            return ANSWER_MALFORMED;
        if (!is_header(line, length, "content-length"))
            continue;
        if (has_length)
            return ANSWER_MALFORMED;
        for (line += 15, length -= 15; length > 0 && (*line == ' ' || *line == '\t'); line++)
            length--;
        while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t'))
            length--;
        if (length == 0)
            return ANSWER_MALFORMED;
        for (; length > 0; line++, length--) {
            if (*line < '0' || *line > '9')
                return ANSWER_MALFORMED;
            if (*body <= BODY_MAX)
                *body = *body * 10 + (size_t)(*line - '0');
        }
        has_length = 1;
    }
    if (!has_length)
        return ANSWER_MALFORMED;
    return *body > BODY_MAX ? ANSWER_TOO_LARGE : NULL;
}

/* Where the head ends, with its empty line; 0 while it is not whole. */
static size_t head_size(const unsigned char *data, size_t size, size_t from)
{
    size_t place;

    for (place = from > 3 ? from - 3 : 0; place + 3 < size; place++)
        if (memcmp(data + place, "\r\n\r\n", 4) == 0)
            return place + 4;
    return 0;
}

/* Steps 3 to 5. The body stands in `reply`, behind the head. */
static const char *receive_all(int fd, struct tallystick *t, int64_t deadline, size_t *head, size_t *body)
{
    size_t used = 0;
    const char *wrong;

    *head = 0;
    for (;;) {
        size_t before = used, wanted = (*head == 0 ? HEAD_MAX : *head + *body) - used;
        ssize_t got = wanted == 0 ? 0 : recv(fd, t->reply + used, wanted, 0);

        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            if (!wait_for(fd, POLLIN, deadline))
                return AGENT_SILENT;
            continue;
        }
        if (got <= 0)
            return ANSWER_MALFORMED; /* it is cut, or its head has no end */
        used += (size_t)got;
        if (*head == 0 && (*head = head_size(t->reply, used, before)) != 0
            && (wrong = head_read(t->reply, *head, body)) != NULL)
            return wrong;
        if (*head != 0 && used >= *head + *body)
            return NULL;
        if (milliseconds() >= deadline)
            return AGENT_SILENT;
    }
}

/* ---- What the header promises ----------------------------------------------------------------------------------- */

#define MARK 0x54414C4Cu

static int finish(struct tallystick *t, const char *code)
{
    t->code = code;
    return code == LICENSED;
}

static void begin(struct tallystick *t)
{
    t->activated = 0;
    t->expires = 0;
}

const char *tallystick_version(void)
{
    return TALLYSTICK_VERSION;
}

size_t tallystick_size(void)
{
    return sizeof(struct tallystick);
}

tallystick *tallystick_init(void *storage, size_t size)
{
    struct tallystick *t = storage;

    if (storage == NULL || size < sizeof *t || (uintptr_t)storage % sizeof(int64_t) != 0)
        return NULL;
    memset(t, 0, sizeof *t);
    t->mark = MARK;
    t->deadline = TALLYSTICK_DEADLINE_DEFAULT;
    t->code = CHECK_WRONG;
    return t;
}

int tallystick_add_root(tallystick *t, const char *fingerprint)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    size_t count;

    if (t == NULL || t->mark != MARK || t->root_count == TALLYSTICK_ROOTS_MAX
        || !is_word(fingerprint, URL_SYMBOLS, HASH_SYMBOLS, HASH_SYMBOLS)
        || !url_decode((const unsigned char *)fingerprint, HASH_SYMBOLS, hash, sizeof hash, &count))
        return 0;
    memcpy(t->roots[t->root_count++], fingerprint, HASH_SYMBOLS + 1);
    return 1;
}

int tallystick_set_deadline(tallystick *t, int deadline)
{
    if (t == NULL || t->mark != MARK || deadline < 1)
        return 0;
    t->deadline = deadline;
    return 1;
}

int tallystick_question(char *target, size_t room, const char *feature, long long required, const char *nonce)
{
    static const char *const parts[] = {"GET /v1/check?feature=", "&required=", "&nonce=",
                                        " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"};
    const char *words[8];
    char number[24];
    size_t place = sizeof number - 1, used = 0, size;

    if (target == NULL || !is_word(feature, SKU_SYMBOLS, 1, FEATURE_MAX) || required < 0 || required > QUANTITY_MAX
        || !is_word(nonce, URL_SYMBOLS, 22, 64))
        return 0;
    number[place] = 0;
    do
        number[--place] = (char)('0' + required % 10);
    while ((required /= 10) > 0);
    words[0] = parts[0];
    words[1] = feature;
    words[2] = parts[1];
    words[3] = number + place;
    words[4] = parts[2];
    words[5] = nonce;
    words[6] = parts[3];
    for (place = 0; place < 7; place++) {
        size = strlen(words[place]);
        if (used + size >= room)
            return 0;
        memcpy(target + used, words[place], size);
        used += size;
    }
    target[used] = 0;
    return (int)used;
}

int tallystick_check(tallystick *t, const char *socket, const char *feature, long long required)
{
    unsigned char random[32];
    char nonce[HASH_SYMBOLS + 1], request[256];
    const char *wrong;
    size_t head = 0, body = 0;
    int64_t deadline;
    int fd, size;

    if (t == NULL || t->mark != MARK)
        return 0;
    begin(t);
    if (!is_question(t, feature, required))
        return finish(t, CHECK_WRONG);
    deadline = milliseconds() + t->deadline;
    /* Not randombytes_buf, which waits while a device starts up, and ends the program where there is no randomness. */
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        return finish(t, AGENT_SILENT);
    url_encode_hash(random, nonce);
    size = tallystick_question(request, sizeof request, feature, required, nonce);
    if ((wrong = connect_to(socket, deadline, &fd)) != NULL)
        return finish(t, wrong);
    wrong = send_all(fd, request, (size_t)size, deadline);
    if (wrong == NULL)
        wrong = receive_all(fd, t, deadline, &head, &body);
    (void)close(fd);
    return finish(t, wrong != NULL ? wrong : judge(t, t->reply + head, body, nonce, feature, required));
}

int tallystick_judge(tallystick *t, const void *answer, size_t size, const char *nonce, const char *feature, long long required)
{
    if (t == NULL || t->mark != MARK)
        return 0;
    begin(t);
    if (!is_question(t, feature, required) || !is_word(nonce, URL_SYMBOLS, 22, 64) || (answer == NULL && size > 0))
        return finish(t, CHECK_WRONG);
    if (size > BODY_MAX)
        return finish(t, ANSWER_TOO_LARGE);
    return finish(t, judge(t, answer, size, nonce, feature, required));
}

int tallystick_verify(tallystick *t, const void *keyset, size_t keyset_size, const void *grant, size_t grant_size,
                      const char *device, long long now, const char *feature, long long required)
{
    const unsigned char *at, *line[2] = {NULL, NULL}, *another;
    size_t left, size[2] = {0, 0}, another_size;
    int found[2] = {0, 0}, place;
    struct question question;

    if (t == NULL || t->mark != MARK)
        return 0;
    begin(t);
    if (!is_question(t, feature, required) || !is_word(device, URL_SYMBOLS, HASH_SYMBOLS, HASH_SYMBOLS)
        || now < -INTEGER_MAX || now > INTEGER_MAX)
        return finish(t, CHECK_WRONG);
    for (place = 0; place < 2; place++) {
        at = place == 0 ? keyset : grant;
        left = at == NULL ? 0 : place == 0 ? keyset_size : grant_size;
        found[place] = next_line(&at, &left, &line[place], &size[place]);
        if (found[place] < 0 || (found[place] == 1 && next_line(&at, &left, &another, &another_size) != 0))
            return finish(t, ANSWER_MALFORMED);
    }
    if ((found[1] && !found[0]) || (found[0] && !keyset_read(line[0], size[0], t))
        || (found[1] && !grant_read(line[1], size[1], t)))
        return finish(t, ANSWER_MALFORMED);
    question.feature = feature;
    question.required = required;
    question.device = device;
    question.moment = now;
    question.epoch = 0;
    return finish(t, decide(t, &question, found[0], found[1]));
}

const char *tallystick_code(const tallystick *t)
{
    return t == NULL || t->mark != MARK ? CHECK_WRONG : t->code;
}

long long tallystick_activated(const tallystick *t)
{
    return t == NULL || t->mark != MARK ? 0 : t->activated;
}

long long tallystick_expires(const tallystick *t)
{
    return t == NULL || t->mark != MARK ? 0 : t->expires;
}

int tallystick_get_memory(const tallystick *t, tallystick_memory *memory)
{
    if (t == NULL || t->mark != MARK || memory == NULL || t->memory.device[0] == 0)
        return 0;
    memset(memory, 0, sizeof *memory);
    memcpy(memory->device, t->memory.device, sizeof memory->device);
    memory->epoch = t->memory.epoch;
    memory->number = t->memory.number;
    memory->moment = t->memory.moment;
    return 1;
}

int tallystick_set_memory(tallystick *t, const tallystick_memory *memory)
{
    if (t == NULL || t->mark != MARK || memory == NULL || memory->device[HASH_SYMBOLS] != 0
        || !is_word(memory->device, URL_SYMBOLS, HASH_SYMBOLS, HASH_SYMBOLS) || memory->epoch < 1 || memory->number < 1)
        return 0;
    memcpy(t->memory.device, memory->device, sizeof t->memory.device);
    t->memory.epoch = memory->epoch;
    t->memory.number = memory->number;
    t->memory.moment = memory->moment;
    return 1;
}
