/* Numbers from the kernel's command line: words of the form name=123, separated by spaces. */
#include "options.h"

const char *command_line(uint32_t magic, const struct multiboot *info)
{
    return magic == MULTIBOOT_MAGIC && info->flags & MULTIBOOT_CMDLINE ? info->cmdline : "";
}

/* Where the value stands if the word at `word` is `name=value`, else null. */
static const char *value_of(const char *word, const char *name)
{
    while (*name && *word == *name) word++, name++;
    return !*name && *word == '=' ? word + 1 : 0;
}

static uint32_t number(const char *text)
{
    uint32_t n = 0;
    while (*text >= '0' && *text <= '9') n = n * 10 + (*text++ - '0');
    return n;
}

uint32_t option(const char *line, const char *name, uint32_t otherwise)
{
    for (const char *at = line; *at; at++) {
        const char *value = at == line || at[-1] == ' ' ? value_of(at, name) : 0;
        if (value) return number(value);
    }
    return otherwise;
}

unsigned word_length(const char *word)
{
    unsigned n = 0;
    while (word[n] && word[n] != ' ') n++;
    return n;
}

int is_name(const char *word, unsigned length, const char *name)
{
    unsigned i = 0;
    while (i < length && name[i] && word[i] == name[i]) i++;
    return i == length && !name[i];
}

static int is_setting(const char *word, int (*known)(const char *name, unsigned length))
{
    unsigned size = word_length(word), name = 0;
    while (name < size && word[name] != '=') name++;
    if (name + 1 >= size || !known(word, name)) return 0;
    for (unsigned i = name + 1; i < size; i++)
        if (word[i] < '0' || word[i] > '9') return 0;
    return 1;
}

const char *unknown_option(const char *line, int (*known)(const char *name, unsigned length))
{
    for (const char *at = line; *at; at++) {
        unsigned size = word_length(at), plain = 1;
        for (unsigned i = 0; i < size; i++) plain &= at[i] != '=';
        if (size && !(at == line && plain) && !is_setting(at, known)) return at;
        at += size;
        if (!*at) break;
    }
    return 0;
}
