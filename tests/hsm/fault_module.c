/* A PKCS#11 module in front of another one, that counts calls and misbehaves when told to.
 *
 * FAULT_MODULE  path of the real module
 * FAULT_FOLDER  one file per function, for example C_Sign: "<action> <number> <times>", times -1 for ever
 *               return N   do not call the real function, return N
 *               sleep N    wait N milliseconds, then call it
 *               kill N     raise signal N
 *               flip N     call it, then flip bit 0 of byte N of the output buffer (C_Sign)
 *               empty N    call it, then say that it found N objects (C_FindObjects)
 *               flags N    call it, then set N in the token flags (C_GetTokenInfo)
 *               Every call appends a byte to C_Sign.calls.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word);

/* CK_FUNCTION_LIST of PKCS#11 2.40: two version bytes, then the functions in this order. */
enum { C_Initialize = 0, C_GetTokenInfo = 6, C_OpenSession = 12, C_Login = 18, C_GetAttributeValue = 24,
       C_FindObjectsInit = 26, C_FindObjects = 27, C_SignInit = 42, C_Sign = 43, FUNCTIONS = 68 };

struct list { unsigned char major, minor; function functions[FUNCTIONS]; };

static struct list wrapped;
static struct list *real;

static void count(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.calls", getenv("FAULT_FOLDER"), name);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0) {
        if (write(file, ".", 1) != 1) abort();
        close(file);
    }
}

/* Reads the order for one call and counts it down; action is empty when there is none. */
static void order(const char *name, char action[16], word *number) {
    char path[4096];
    long times = 0;
    action[0] = 0;
    snprintf(path, sizeof path, "%s/%s", getenv("FAULT_FOLDER"), name);
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (fscanf(file, "%15s %li %ld", action, (long *)number, &times) != 3) action[0] = 0;
    fclose(file);
    if (times == 1) unlink(path);
    if (times > 1 && (file = fopen(path, "w"))) {
        fprintf(file, "%s %ld %ld", action, (long)*number, times - 1);
        fclose(file);
    }
}

static word call(int index, const char *name, word a, word b, word c, word d, word e, word f) {
    char action[16];
    word number = 0;
    count(name);
    order(name, action, &number);
    if (!strcmp(action, "return")) return number;
    if (!strcmp(action, "sleep")) usleep(1000 * number);
    if (!strcmp(action, "kill")) { signal(number, SIG_DFL); raise(number); }
    word result = real->functions[index](a, b, c, d, e, f);
    if (!strcmp(action, "flip") && d) ((unsigned char *)d)[number] ^= 1;
    if (!strcmp(action, "empty")) *(word *)d = number;
    /* CK_TOKEN_INFO begins with 32 + 32 + 16 + 16 characters; then the flags. */
    if (!strcmp(action, "flags")) *(word *)(b + 96) |= number;
    return result;
}

#define WRAP(name) \
    static word wrapped_##name(word a, word b, word c, word d, word e, word f) { \
        return call(name, #name, a, b, c, d, e, f); \
    }
WRAP(C_Initialize)
WRAP(C_GetTokenInfo)
WRAP(C_OpenSession)
WRAP(C_Login)
WRAP(C_GetAttributeValue)
WRAP(C_FindObjectsInit)
WRAP(C_FindObjects)
WRAP(C_SignInit)
WRAP(C_Sign)

word C_GetFunctionList(struct list **result) {
    void *module = dlopen(getenv("FAULT_MODULE"), RTLD_NOW | RTLD_LOCAL);
    if (!module) return 5;
    word (*get)(struct list **) = (word (*)(struct list **))dlsym(module, "C_GetFunctionList");
    word code = get(&real);
    if (code) return code;
    wrapped = *real;
    wrapped.functions[C_Initialize] = wrapped_C_Initialize;
    wrapped.functions[C_GetTokenInfo] = wrapped_C_GetTokenInfo;
    wrapped.functions[C_OpenSession] = wrapped_C_OpenSession;
    wrapped.functions[C_Login] = wrapped_C_Login;
    wrapped.functions[C_GetAttributeValue] = wrapped_C_GetAttributeValue;
    wrapped.functions[C_FindObjectsInit] = wrapped_C_FindObjectsInit;
    wrapped.functions[C_FindObjects] = wrapped_C_FindObjects;
    wrapped.functions[C_SignInit] = wrapped_C_SignInit;
    wrapped.functions[C_Sign] = wrapped_C_Sign;
    *result = &wrapped;
    return 0;
}
