/* What a guest has to talk with: the first serial port, and the debug-exit port. */
#ifndef CONSOLE_H
#define CONSOLE_H
#include <stdint.h>

void console_init(void);
/* Output waits for the end of its line, or for exit. */
void put(char c);
/* Formats: %d %u %x %s %c %%, with a width that may start with 0 (%08x) or - (%-10s). */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the run with this status: one byte to port 0xF4. Without such a port the processor halts for ever. */
void exit(int status) __attribute__((noreturn));

#endif
