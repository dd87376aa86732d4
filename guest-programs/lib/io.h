/* Port I/O: IN and OUT in their three widths. Intel SDM volume 2, IN and OUT; used by every guest. */
#ifndef IO_H
#define IO_H
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }
static inline void outw(uint16_t port, uint16_t value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }

/* `count` bytes from `bytes` on, in one instruction. */
static inline void outsb(uint16_t port, const void *bytes, uint32_t count)
{
    asm volatile("rep outsb" : "+S"(bytes), "+c"(count) : "d"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

#endif
