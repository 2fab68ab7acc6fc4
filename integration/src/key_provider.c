/* A key provider that hides: each byte of what it is given, xored with 5a. The vectors' image `provider` is by it.
 * One request on standard input, one answer on standard output; of the request, the value that is to be turned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int main(void)
{
    static char text[1 << 20];
    static unsigned char bytes[1 << 20];
    size_t length = fread(text, 1, sizeof text - 1, stdin);
    text[length] = 0;
    int wrap = strstr(text, "\"op\":\"keywrap\"") != NULL;
    const char *name = wrap ? "\"optsdata\":\"" : "\"annotation\":\"";
    char *value = strstr(text, name);
    if (value == NULL) {
        fputs("there is nothing to turn\n", stderr);
        return 1;
    }
    size_t count = 0;
    unsigned buffer = 0;
    int bits = 0;
    for (value += strlen(name); *value != '"' && *value != '=' && *value != 0; value++) {
        const char *digit = strchr(ALPHABET, *value);
        if (digit == NULL)
            return 1;
        buffer = buffer << 6 | (unsigned)(digit - ALPHABET);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[count++] = (buffer >> bits & 255) ^ 0x5a;
        }
    }
    printf(wrap ? "{\"keywrapresults\":{\"annotation\":\"" : "{\"keyunwrapresults\":{\"optsdata\":\"");
    for (size_t at = 0; at < count; at += 3) {
        size_t left = count - at;
        unsigned group = bytes[at] << 16 | (left > 1 ? bytes[at + 1] : 0) << 8 | (left > 2 ? bytes[at + 2] : 0);
        putchar(ALPHABET[group >> 18]);
        putchar(ALPHABET[group >> 12 & 63]);
        putchar(left > 1 ? ALPHABET[group >> 6 & 63] : '=');
        putchar(left > 2 ? ALPHABET[group & 63] : '=');
    }
    puts("\"}}");
    return 0;
}
