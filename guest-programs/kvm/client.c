/* A small user of /dev/kvm: it runs three guests and prints each exit of theirs to user space. No C library. */
#include "system.h"

#define MEMORY 0x10000
#define CODE 0x1000
#define GDT 0x2000
#define IDT 0x3000
/* Three pages that KVM may use for itself, in the guest's addresses. */
#define TSS 0xfffbd000

extern const u8 real[], real_end[], protected[], protected_end[], paging[], paging_end[];
extern const u8 on_int30[], on_irq20[], on_gp[], on_pf[];

static u8 memory[MEMORY] __attribute__((aligned(4096)));

/* A descriptor with base 0. */
static void put_descriptor(u32 at, u32 limit, u32 rights) {
  *(u32 *)(memory + at) = limit & 0xffff;
  *(u32 *)(memory + at + 4) = (limit & 0xf0000) | rights << 8;
}

static void put_gate(u32 vector, const u8 *handler, const u8 *guest) {
  *(u32 *)(memory + IDT + 8 * vector) = 8 << 16 | (u32)(CODE + (handler - guest));
  *(u32 *)(memory + IDT + 8 * vector + 4) = 0x8e00;
}

/* Flat segments and protected mode. */
static void protect(struct system_registers *s) {
  put_descriptor(GDT + 8, 0xfffff, 0xc09b);
  put_descriptor(GDT + 16, 0xfffff, 0xc093);
  s->gdt = (struct table){.base = GDT, .limit = 23};
  s->idt = (struct table){.base = IDT, .limit = 0x31 * 8 - 1};
  s->cs = (struct segment){.limit = ~0u, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
  s->ds = (struct segment){.limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  s->es = s->fs = s->gs = s->ss = s->ds;
  s->cr0 |= 1;
}

static void print_port(struct run *run) {
  u8 *data = (u8 *)run + run->io.data_offset;
  if (!run->io.out) *data = 'x';
  print_hex(run->io.out ? "out " : "in ", run->io.port);
  print_hex(" ", run->io.size == 1 ? *data : *(u32 *)data);
}

static void print_memory(struct run *run) {
  if (!run->mmio.write) *(u32 *)run->mmio.data = 0x55667788;
  print_hex(run->mmio.write ? "write " : "read ", run->mmio.address);
  print_hex(" length ", run->mmio.length);
  print_hex(" ", *(u32 *)run->mmio.data);
}

/* Answers an exit; whether the guest goes on. */
static int answer(struct run *run, int processor, const char *name) {
  static const u32 interrupt = 0x20;
  int goes_on = 1;
  print(name);
  print(": ");
  switch (run->reason) {
    case KVM_EXIT_IO: print_port(run); break;
    case KVM_EXIT_MMIO: print_memory(run); break;
    case KVM_EXIT_HLT:
      print("hlt");
      goes_on = run->interrupt_flag;
      if (goes_on) request("KVM_INTERRUPT", processor, KVM_INTERRUPT, &interrupt);
      break;
    case KVM_EXIT_SHUTDOWN: print("shutdown"), goes_on = 0; break;
    case KVM_EXIT_FAIL_ENTRY: print_hex("entry failed: ", run->hardware_reason), goes_on = 0; break;
    case KVM_EXIT_INTERNAL_ERROR: print_hex("internal error ", run->suberror), goes_on = 0; break;
    default: print_hex("exit ", run->reason), goes_on = 0;
  }
  print("\n");
  return goes_on;
}

static void run(int kvm, const char *name, const u8 *code, const u8 *end, void (*prepare)(struct system_registers *)) {
  int machine = request("KVM_CREATE_VM", kvm, KVM_CREATE_VM, 0);
  request("KVM_SET_TSS_ADDR", machine, KVM_SET_TSS_ADDR, (void *)TSS);
  for (u32 n = 0; n < MEMORY; n++) memory[n] = 0;
  for (u32 n = 0; code + n < end; n++) memory[CODE + n] = code[n];
  struct memory_region all = {.size = MEMORY, .here = (u32)memory};
  request("KVM_SET_USER_MEMORY_REGION", machine, KVM_SET_USER_MEMORY_REGION, &all);

  int processor = request("KVM_CREATE_VCPU", machine, KVM_CREATE_VCPU, 0);
  struct run *run = shared_page(kvm, processor);

  struct system_registers system;
  request("KVM_GET_SREGS", processor, KVM_GET_SREGS, &system);
  system.cs.base = system.cs.selector = 0;
  if (prepare) prepare(&system);
  request("KVM_SET_SREGS", processor, KVM_SET_SREGS, &system);
  struct registers registers = {.eip = CODE, .esp = 0x8000, .eflags = 2};
  request("KVM_SET_REGS", processor, KVM_SET_REGS, &registers);

  do request("KVM_RUN", processor, KVM_RUN, 0);
  while (answer(run, processor, name));

  request("KVM_GET_REGS", processor, KVM_GET_REGS, &registers);
  request("KVM_GET_SREGS", processor, KVM_GET_SREGS, &system);
  print(name);
  print_hex(": eip ", registers.eip);
  print_hex(" eflags ", registers.eflags);
  print_hex(" cr0 ", system.cr0);
  print_hex(" cr2 ", system.cr2);
  print("\n");
  call(SYS_MUNMAP, (u32)run, request("KVM_GET_VCPU_MMAP_SIZE", kvm, KVM_GET_VCPU_MMAP_SIZE, 0), 0);
  call(SYS_CLOSE, processor, 0, 0);
  call(SYS_CLOSE, machine, 0, 0);
}

static void prepare_protected(struct system_registers *s) {
  protect(s);
  put_gate(0x0d, on_gp, protected);
  put_gate(0x20, on_irq20, protected);
  put_gate(0x30, on_int30, protected);
}

static void prepare_paging(struct system_registers *s) {
  protect(s);
  put_gate(0x0e, on_pf, paging);
}

void _start(void) {
  int kvm = open_kvm();
  print_hex("KVM interface ", request("KVM_GET_API_VERSION", kvm, KVM_GET_API_VERSION, 0));
  print("\n");
  run(kvm, "real", real, real_end, 0);
  run(kvm, "protected", protected, protected_end, prepare_protected);
  run(kvm, "paging", paging, paging_end, prepare_paging);
  quit(0);
}
