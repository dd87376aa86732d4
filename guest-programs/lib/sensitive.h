/* The sensitive unprivileged instructions that give a value: they tell (or change) the state of the machine in any
   ring and do not fault. A kernel that uses them can notice that it no longer runs in ring 0.
   Robin and Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine Monitor", 2000. */
#ifndef SENSITIVE_H
#define SENSITIVE_H
#ifdef CLEAN
#error "a clean build uses no sensitive unprivileged instruction"
#endif
#include "cpu.h"

static inline uint32_t pushf(void) { uint32_t v; asm volatile("pushfd; pop %0" : "=r"(v) : : "memory"); return v; }
static inline void popf(uint32_t v) { asm volatile("push %0; popfd" : : "r"(v) : "memory", "cc"); }
static inline uint16_t read_cs(void) { uint16_t v; asm volatile("mov %0, cs" : "=r"(v)); return v; }
static inline uint16_t read_ss(void) { uint16_t v; asm volatile("mov %0, ss" : "=r"(v)); return v; }
static inline uint16_t str(void) { uint16_t v; asm volatile("str %0" : "=r"(v)); return v; }
static inline uint16_t sldt(void) { uint16_t v; asm volatile("sldt %0" : "=r"(v)); return v; }
static inline uint16_t smsw(void) { uint16_t v; asm volatile("smsw %0" : "=r"(v)); return v; }
static inline struct table_register sgdt(void) { struct table_register r; asm volatile("sgdt %0" : "=m"(r)); return r; }
static inline struct table_register sidt(void) { struct table_register r; asm volatile("sidt %0" : "=m"(r)); return r; }

#endif
