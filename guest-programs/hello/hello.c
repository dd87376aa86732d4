/* hello: the smallest kernel of the lab. It says where it runs and what its loader told it, and ends with status 0. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/multiboot.h"

static void show_processor(void)
{
    struct cpuid id = cpuid(0);
    uint32_t vendor[4] = { id.ebx, id.edx, id.ecx, 0 };
    print("Processor     %s, family %u\n", (const char *)vendor, cpuid(1).eax >> 8 & 15);
}

static void show_memory_map(const struct multiboot *info)
{
    static const char *const types[] = { "?", "usable", "reserved", "ACPI tables", "ACPI state", "bad" };
    const char *at = (const char *)info->mmap, *end = at + info->mmap_length;
    print("Memory map\n");
    while (at < end) {
        const struct mmap_entry *e = (const struct mmap_entry *)at;
        print("  %08x%08x  %8u KiB  %s\n", e->base_high, e->base_low, e->length_low >> 10 | e->length_high << 22,
              types[e->type <= 5 ? e->type : 0]);
        at += e->size + sizeof e->size;
    }
}

static void show_modules(const struct multiboot *info)
{
    for (uint32_t i = 0; i < info->mods_count; i++) {
        const struct module *m = &info->mods[i];
        uint32_t sum = 0;
        for (const uint8_t *p = (const uint8_t *)m->start; p < (const uint8_t *)m->end; p++) sum += *p;
        print("Module %u      %08x, %u bytes, byte sum %u: %s\n", i, m->start, m->end - m->start, sum, m->string);
    }
}

int kernel_main(uint32_t magic, const struct multiboot *info)
{
    print("Hello from ring 0 of an IA-32 PC.\n");
    print("Protected mode is %s, paging is %s.\n", read_cr0() & CR0_PE ? "on" : "off", read_cr0() & CR0_PG ? "on" : "off");
    if (magic != MULTIBOOT_MAGIC) {
        print("The loader is not Multiboot: EAX was %08x.\n", magic);
        return 1;
    }
    print("The loader speaks Multiboot.\n\n");
    show_processor();
    if (info->flags & MULTIBOOT_CMDLINE) print("Command line  %s\n", info->cmdline);
    if (info->flags & MULTIBOOT_LOADER_NAME) print("Loader        %s\n", info->loader_name);
    if (info->flags & MULTIBOOT_MEMORY) print("Memory        %u KiB low, %u KiB high\n", info->mem_lower, info->mem_upper);
    if (info->flags & MULTIBOOT_MMAP) show_memory_map(info);
    if (info->flags & MULTIBOOT_MODULES) show_modules(info);
    print("\nThat is all. Writing 0 to port F4h.\n");
    return 0;
}
