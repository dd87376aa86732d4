/* A small hypervisor: it turns VMX on and runs one guest, an ordinary kernel, in VMX non-root operation. The
   command line chooses who translates the guest's addresses: `shadow` page tables, or nested ones (`ept`). */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/options.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "vmx.h"

static __attribute__((aligned(4096))) uint32_t directory[1024], vmxon_region[1024];
int nested;
static int bad_entry;
static uint8_t *guest_memory;                   /* from its guest-physical 0 on */
static uint32_t guest_size;
extern uint8_t image_end[];
extern const uint8_t guest_image[];             /* vmx-guest.elf (image.S) */
/* The guest: ours, or the module that the loader has. */
static struct module guest_module = { (uint32_t)guest_image, 0, "", 0 };

void give_up(const char *sentence)
{
    print("%s.\n", sentence);
    exit(1);
}

/* Exceptions in the hypervisor are its end. The one interrupt is the timer's: the guest gets it by
   injection. */
struct frame *trap(struct frame *f)
{
    if (f->vector != VECTOR_IRQ0) {
        print("%s at %x, in the hypervisor itself.\n", exception_name(f->vector), f->eip);
        exit(2);
    }
    outb(0x20, 0x20);                           /* end of interrupt, for the real controller */
    raise_interrupt();
    return f;
}

/* VMX operation wants paging: all 4 GiB where they are, in pages of 4 MiB. */
static void paging_init(void)
{
    for (uint32_t i = 0; i < 1024; i++) directory[i] = i << 22 | 0x83;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP | CR0_NE);
}

/* Vectors 20h to 2Fh; all requests but the timer's are masked. */
static void controllers_init(void)
{
    static const uint8_t words[2][5] = { { 0x11, 0x20, 4, 1, 0xFE }, { 0x11, 0x28, 2, 1, 0xFF } };
    for (int chip = 0; chip < 2; chip++)
        for (int n = 0; n < 5; n++) outb((chip ? 0xA0 : 0x20) + (n > 0), words[chip][n]);
}

/* CPUID, then IA32_FEATURE_CONTROL (23.7), which the firmware may have locked, then CR4.VMXE and VMXON.
   Nested paging needs EPT, and unrestricted guest for a guest that starts without paging. */
static void vmx_on(void)
{
    uint32_t ept = USE_EPT | UNRESTRICTED;
    if (!(cpuid(1).ecx & 1 << 5)) give_up("This processor has no VMX: choose one that has, as --cpu yonah");
    if (!(rdmsr(0x3A) & 1)) wrmsr(0x3A, 5);
    if (!(rdmsr(0x3A) & 4)) give_up("The firmware has turned VMX off");
    if (nested && !(rdmsr(0x482) >> 63 && (rdmsr(0x48B) >> 32 & ept) == ept))
        give_up("This processor has no EPT with unrestricted guest: choose `shadow`, or --cpu yonah-ept");
    vmxon_region[0] = (uint32_t)rdmsr(0x480) & 0x7FFFFFFF;
    write_cr4(read_cr4() | CR4_VMXE);
    if (vmxon((uint32_t)vmxon_region)) give_up("VMXON failed");
}

/* ---- the guest ---- */

uint8_t *guest_frame(uint32_t physical)
{
    return physical < guest_size ? guest_memory + (physical & ~0xFFFu) : 0;
}

uint8_t *needed_frame(uint32_t physical)
{
    if (physical >= guest_size) {
        print("The guest accessed guest-physical address %08x, EIP %08x.\n", physical, get(GUEST_RIP));
        give_up("It has no memory there");
    }
    return guest_frame(physical);
}

static void read_options(const char *line)
{
    for (const char *at = line; *at;) {
        unsigned size = word_length(at);
        if (is_name(at, size, "ept")) nested = 1;
        else if (is_name(at, size, "shadow")) nested = 0;
        else if (is_name(at, size, "triple-fault")) guest_module.string = "triple-fault";
        else if (is_name(at, size, "bad-entry")) bad_entry = 1;
        else if (size && at != line) give_up("The options are: shadow, ept, triple-fault, bad-entry");
        at += size + (at[size] == ' ');
    }
}

/* The guest's memory: what is free behind this image and the module, and no more than MOST. */
static void memory_init(const struct multiboot *information)
{
    int has_module = information->flags & MULTIBOOT_MODULES && information->mods_count;
    uint32_t top = information->flags & MULTIBOOT_MEMORY ? (information->mem_upper + 1024) << 10 : 4 << 20;
    if (has_module) guest_module = information->mods[0];
    uint32_t end = guest_module.end > (uint32_t)image_end ? guest_module.end : (uint32_t)image_end;
    guest_memory = (uint8_t *)((end + 0xFFF) & ~0xFFFu);
    guest_size = top - (uint32_t)guest_memory < MOST ? (top - (uint32_t)guest_memory) & ~0xFFFu : MOST;
}

/* Loads an ELF image as a Multiboot loader would, and gives its entry point. */
static uint32_t load_guest(const uint8_t *image)
{
    const uint32_t *header = (const uint32_t *)image, *segment = (const uint32_t *)(image + header[7]);
    if (header[0] != 0x464C457F) give_up("The guest is no ELF file: give a Multiboot kernel as the module");
    for (unsigned left = *(const uint16_t *)(image + 44); left; left--, segment += 8) {
        if (segment[0] != 1) continue;          /* PT_LOAD: offset, -, address, bytes of file and memory */
        if (segment[3] > guest_size || segment[5] > guest_size - segment[3])
            give_up("The guest does not fit into its memory");
        __builtin_memset(guest_memory + segment[3], 0, segment[5]);
        __builtin_memcpy(guest_memory + segment[3], image + segment[1], segment[4]);
    }
    return header[6];
}

/* What a loader tells the kernel: the command line, the memory. */
static uint32_t tell_guest(void)
{
    enum { INFORMATION = 0xF000, LINE = 0xF100, LONGEST = 0xE00 };
    char *line = (char *)guest_memory + LINE;
    const char *text = guest_module.string;
    for (unsigned n = 0; n < LONGEST && (line[n] = text[n]); n++) line[n + 1] = 0;
    *(struct multiboot *)(guest_memory + INFORMATION) = (struct multiboot){
        .flags = MULTIBOOT_MEMORY | MULTIBOOT_CMDLINE, .cmdline = (const char *)LINE,
        .mem_lower = 640, .mem_upper = (guest_size >> 10) - 1024,
    };
    return INFORMATION;
}

int kernel_main(uint32_t magic, struct multiboot *information)
{
    if (magic != MULTIBOOT_MAGIC) give_up("The loader is not Multiboot");
    read_options(command_line(magic, information));
    memory_init(information);
    segments_init();
    traps_init();
    paging_init();
    controllers_init();
    vmx_on();
    print("[hypervisor] the guest starts, with %s\n", nested ? "nested paging (EPT)" : "shadow page tables");
    while (!(inb(0x3FD) & 0x40)) {}             /* sent: the guest's set-up of the port empties its FIFO */
    vmcs_init(load_guest((const uint8_t *)guest_module.start), tell_guest());
    if (nested) ept_init();
    else shadow_init();
    if (bad_entry) vmwrite(GUEST_RFLAGS, 0);    /* bit 1 of EFLAGS is always 1: the entry will fail */
    for (int first = 1; status < 0; first = 0) {
        prepare_entry();
        vm_enter(first);
        handle_exit();
    }
    print_exits();
    vmxoff();
    return status;
}
