/* What a Multiboot 1 loader leaves for the kernel: EAX holds the magic, EBX points at the information.
   Multiboot Specification 0.6.96, section 3.3. */
#ifndef MULTIBOOT_H
#define MULTIBOOT_H
#include <stdint.h>

enum { MULTIBOOT_MAGIC = 0x2BADB002 };
enum { MULTIBOOT_MEMORY = 1 << 0, MULTIBOOT_CMDLINE = 1 << 2, MULTIBOOT_MODULES = 1 << 3, MULTIBOOT_MMAP = 1 << 6,
       MULTIBOOT_LOADER_NAME = 1 << 9 };

struct multiboot {
    uint32_t flags;                         /* which of the fields below are valid */
    uint32_t mem_lower, mem_upper;          /* KiB below 640 KiB, and from 1 MiB up */
    uint32_t boot_device;
    const char *cmdline;
    uint32_t mods_count;
    const struct module *mods;
    uint32_t syms[4];
    uint32_t mmap_length;
    const struct mmap_entry *mmap;
    uint32_t drives_length, drives, config_table;
    const char *loader_name;
};

struct module { uint32_t start, end; const char *string; uint32_t reserved; };

/* `size` does not count itself: the next entry begins at (address of base) + size. */
struct mmap_entry { uint32_t size, base_low, base_high, length_low, length_high, type; };

#endif
