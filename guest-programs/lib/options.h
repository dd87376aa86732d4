/* Numbers from the kernel's command line: `name=123`. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include "multiboot.h"

/* The command line, or an empty one when the loader gave none. */
const char *command_line(uint32_t magic, const struct multiboot *info);
/* The number after `name=`, or `otherwise` when the line does not have it. */
uint32_t option(const char *line, const char *name, uint32_t otherwise);
/* The first word of the line that is no `name=number` with a name that `known` accepts, else null. The line's first word
   may be the kernel's own name. */
const char *unknown_option(const char *line, int (*known)(const char *name, unsigned length));
/* How long the word at `word` is. */
unsigned word_length(const char *word);
/* Whether `name` is the `length` characters at `word`. */
int is_name(const char *word, unsigned length, const char *name);

#endif
