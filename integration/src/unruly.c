/*
 * A PKCS#11 module that stands in front of a real one and misbehaves where it is told to.
 *
 * UNRULY_MODULE  the real module
 * UNRULY_LOG     a file that gets the name of each function that was called
 * UNRULY_FAULTS  function=fault[*times][@first], separated by commas; a fault is a code (0x30), or one of
 *                abort, segv, exit, hang, spin, noise, close, flood (announcements without an end), lie (an answer
 *                of 4 GiB), child (a program that lists what it inherits, in UNRULY_LOG.inherited), slow (0.2 s more),
 *                late (3 s more)
 * UNRULY_QUIRKS  ways of a module that is not wrong, but poor: no-length-query (C_Decrypt has to be given a buffer),
 *                no-oaep (the mechanism is not there)
 * UNRULY_TOKEN   label of the only token on which C_Login has faults
 * UNRULY_FLAGS   token flags to set, UNRULY_NO_FLAGS token flags to clear
 * UNRULY_TWICE   shows every slot twice
 * UNRULY_ONE     gives objects one at a time
 * UNRULY_NO_DECRYPT  says that no key has CKA_DECRYPT
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word);

/* CK_FUNCTION_LIST, version 2: a version, then the functions in the order of the standard. */
struct list {
    unsigned char major, minor;
    function functions[68];
};

static struct list ours, *theirs;

static void note(const char *name)
{
    const char *log = getenv("UNRULY_LOG");
    int file = log ? open(log, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file >= 0) {
        dprintf(file, "%s\n", name);
        close(file);
    }
}

static void noise(void)
{
    static const char text[] = "noise from the module\n";
    for (int file = 0; file < 64; file++)
        (void)!write(file, text, sizeof text - 1);
}

/* Writes to the socket of the process that loaded us, whatever its number is. */
static void speak(const void *bytes, size_t length)
{
    for (int file = 3; file < 512; file++)
        (void)!write(file, bytes, length);
}

static void list_inherited(void)
{
    char command[512];
    snprintf(command, sizeof command, "ls -l /proc/self/fd > '%s.inherited'", getenv("UNRULY_LOG"));
    (void)!system(command);
}

/* The code that the function shall answer with, 0 where the real one shall. */
static word fault(const char *name)
{
    static int used[68], seen[68];
    const char *at = getenv("UNRULY_FAULTS");
    size_t length = strlen(name);
    for (int number = 0; at && number < 68; number++) {
        if (!strncmp(at, name, length) && at[length] == '=') {
            char what[64] = "", item[64] = "";
            sscanf(at + length + 1, "%63[^,]", item);
            sscanf(item, "%63[^*@]", what);
            const char *star = strchr(item, '*'), *from = strchr(item, '@');
            int times = star ? atoi(star + 1) : 0;
            if (++seen[number] < (from ? atoi(from + 1) : 1) || (times && used[number] >= times))
                goto next;
            used[number]++;
            if (!strcmp(what, "abort")) abort();
            if (!strcmp(what, "segv")) *(volatile char *)8 = 0;
            if (!strcmp(what, "exit")) exit(0);
            if (!strcmp(what, "hang")) for (;;) pause();
            if (!strcmp(what, "spin")) for (;;) {}
            if (!strcmp(what, "noise")) noise();
            if (!strcmp(what, "close")) for (int file = 3; file < 1024; file++) close(file);
            if (!strcmp(what, "flood")) for (;;) speak((char[4096]){0}, 4096);
            if (!strcmp(what, "lie")) speak("\377\377\377\377\377", 5);
            if (!strcmp(what, "child")) list_inherited();
            if (!strcmp(what, "slow")) usleep(200000);
            if (!strcmp(what, "late")) sleep(3);
            return strtoul(what, NULL, 0);
        }
    next:
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    return 0;
}

static word pass(int index, const char *name, word a, word b, word c, word d, word e, word f)
{
    note(name);
    word code = fault(name);
    return code ? code : theirs->functions[index](a, b, c, d, e, f);
}

#define PASS(index, name) \
    static word name(word a, word b, word c, word d, word e, word f) \
    { \
        return pass(index, #name, a, b, c, d, e, f); \
    }

PASS(0, C_Initialize)
PASS(1, C_Finalize)
PASS(13, C_CloseSession)
PASS(22, C_DestroyObject)
PASS(26, C_FindObjectsInit)
PASS(28, C_FindObjectsFinal)
PASS(62, C_DeriveKey)

static int has_quirk(const char *name)
{
    const char *quirks = getenv("UNRULY_QUIRKS");
    return quirks && strstr(quirks, name) != NULL;
}

/* CKM_RSA_PKCS_OAEP is 9, CKR_MECHANISM_INVALID is 0x70. */
static word C_GetMechanismInfo(word slot, word mechanism, word info, word d, word e, word f)
{
    if (mechanism == 9 && has_quirk("no-oaep"))
        return 0x70;
    return theirs->functions[8](slot, mechanism, info, d, e, f);
}

static word C_DecryptInit(word session, word mechanism, word key, word d, word e, word f)
{
    if (*(word *)mechanism == 9 && has_quirk("no-oaep")) {
        note("C_DecryptInit");
        return 0x70;
    }
    return pass(33, "C_DecryptInit", session, mechanism, key, d, e, f);
}

/* CKR_ARGUMENTS_BAD is 7; the operation is over, as after any other error. */
static word C_Decrypt(word session, word input, word length, word output, word size, word f)
{
    if (!output && has_quirk("no-length-query")) {
        static unsigned char lost[4096];
        word lost_size = sizeof lost;
        note("C_Decrypt");
        theirs->functions[34](session, input, length, (word)lost, (word)&lost_size, f);
        return 7;
    }
    return pass(34, "C_Decrypt", session, input, length, output, size, f);
}

/* Takes two arguments more than the others. */
typedef word (*longer)(word, word, word, word, word, word, word, word);

static word C_GenerateKeyPair(word a, word b, word c, word d, word e, word f, word g, word h)
{
    note("C_GenerateKeyPair");
    word code = fault("C_GenerateKeyPair");
    return code ? code : ((longer)theirs->functions[59])(a, b, c, d, e, f, g, h);
}

static word C_UnwrapKey(word a, word b, word c, word d, word e, word f, word g, word h)
{
    note("C_UnwrapKey");
    word code = fault("C_UnwrapKey");
    return code ? code : ((longer)theirs->functions[61])(a, b, c, d, e, f, g, h);
}

/* An attribute is a type, a pointer and a length. */
static word C_GetAttributeValue(word session, word object, word list, word count, word e, word f)
{
    word code = pass(24, "C_GetAttributeValue", session, object, list, count, e, f);
    for (word *at = (word *)list; getenv("UNRULY_NO_DECRYPT") && at < (word *)list + 3 * count; at += 3)
        if (at[0] == 0x105 && at[2] == 1)
            *(char *)at[1] = 0;
    return code;
}

/* What tells the second appearance of a slot from the first. */
static const word SECOND = 1UL << 40;

static word C_GetSlotList(word present, word list, word count, word d, word e, word f)
{
    word room = *(word *)count, *slots = (word *)list;
    word code = pass(4, "C_GetSlotList", present, list, count, d, e, f);
    word found = *(word *)count;
    if (code || !getenv("UNRULY_TWICE"))
        return code;
    *(word *)count = 2 * found;
    for (word number = 0; slots && number < found && found + number < room; number++)
        slots[found + number] = slots[number] | SECOND;
    return 0;
}

static word C_OpenSession(word slot, word b, word c, word d, word e, word f)
{
    return pass(12, "C_OpenSession", slot & ~SECOND, b, c, d, e, f);
}

static word C_FindObjects(word session, word list, word room, word count, word e, word f)
{
    return pass(27, "C_FindObjects", session, list, getenv("UNRULY_ONE") ? 1 : room, count, e, f);
}

static word C_Login(word session, word user, word pin, word length, word e, word f)
{
    const char *token = getenv("UNRULY_TOKEN");
    word state[4];
    char info[512] = "";
    int spared = token && !theirs->functions[15](session, (word)state, 0, 0, 0, 0)
        && !theirs->functions[6](state[0], (word)info, 0, 0, 0, 0)
        && strncmp(info, token, strlen(token));
    note("C_Login");
    word code = spared ? 0 : fault("C_Login");
    return code ? code : theirs->functions[18](session, user, pin, length, e, f);
}

/* The flags stand behind label, manufacturer, model and serial number. */
static word C_GetTokenInfo(word slot, word info, word c, word d, word e, word f)
{
    word code = pass(6, "C_GetTokenInfo", slot & ~SECOND, info, c, d, e, f);
    word *flags = (word *)(info + 32 + 32 + 16 + 16);
    if (code == 0 && getenv("UNRULY_FLAGS"))
        *flags |= strtoul(getenv("UNRULY_FLAGS"), NULL, 0);
    if (code == 0 && getenv("UNRULY_NO_FLAGS"))
        *flags &= ~strtoul(getenv("UNRULY_NO_FLAGS"), NULL, 0);
    return code;
}

word C_GetFunctionList(struct list **list)
{
    note("C_GetFunctionList");
    word code = fault("C_GetFunctionList");
    if (code)
        return code;
    void *real = dlopen(getenv("UNRULY_MODULE"), RTLD_NOW | RTLD_LOCAL);
    word (*get)(struct list **) = real ? (word (*)(struct list **))dlsym(real, "C_GetFunctionList") : NULL;
    if (!get)
        return 5;
    code = get(&theirs);
    if (code)
        return code;
    ours = *theirs;
    ours.functions[0] = C_Initialize;
    ours.functions[1] = C_Finalize;
    ours.functions[4] = C_GetSlotList;
    ours.functions[6] = C_GetTokenInfo;
    ours.functions[8] = C_GetMechanismInfo;
    ours.functions[12] = C_OpenSession;
    ours.functions[13] = C_CloseSession;
    ours.functions[18] = C_Login;
    ours.functions[22] = C_DestroyObject;
    ours.functions[24] = C_GetAttributeValue;
    ours.functions[26] = C_FindObjectsInit;
    ours.functions[27] = C_FindObjects;
    ours.functions[28] = C_FindObjectsFinal;
    ours.functions[33] = C_DecryptInit;
    ours.functions[34] = C_Decrypt;
    ours.functions[59] = (function)C_GenerateKeyPair;
    ours.functions[61] = (function)C_UnwrapKey;
    ours.functions[62] = C_DeriveKey;
    *list = &ours;
    return 0;
}
