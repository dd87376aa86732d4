/* Numbers from the kernel's command line: `name=123`. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include "multiboot.h"

/* The command line, or an empty one when the loader gave none. */
const char *command_line(uint32_t magic, const struct multiboot *info);
/* The number after `name=`, or `otherwise` when the line does not have it. */
uint32_t option(const char *line, const char *name, uint32_t otherwise);

#endif
