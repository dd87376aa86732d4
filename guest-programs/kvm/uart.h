/* A 16550 at ports 3F8h to 3FFh, interrupt 4, whose line is the program's terminal. */
#pragma once
#include "kvm.h"

enum { UART_FIRST = 0x3f8, UART_LAST = 0x3ff };

/* Makes the terminal raw; `machine` gets the interrupts. */
void uart_open(int machine);

/* The terminal as it was. */
void uart_close(void);

u8 uart_read(u16 port);
void uart_write(u16 port, u8 value);

/* Takes a byte from the terminal if one waits and the last one was read. */
void uart_poll(void);
