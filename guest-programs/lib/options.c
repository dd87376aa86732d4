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
