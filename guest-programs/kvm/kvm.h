/* The part of Linux's KVM interface that these programs use (Documentation/virt/kvm/api.rst), for a 32-bit program. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Requests to /dev/kvm, to a machine, and to a processor. */
enum request {
  KVM_GET_API_VERSION = 0xae00,
  KVM_CREATE_VM = 0xae01,
  KVM_GET_SUPPORTED_CPUID = 0xc008ae05,
  KVM_GET_VCPU_MMAP_SIZE = 0xae04,
  KVM_CREATE_VCPU = 0xae41,
  KVM_SET_USER_MEMORY_REGION = 0x4020ae46,
  KVM_SET_TSS_ADDR = 0xae47,
  KVM_CREATE_IRQCHIP = 0xae60,
  KVM_IRQ_LINE = 0x4008ae61,
  KVM_CREATE_PIT2 = 0x4040ae77,
  KVM_RUN = 0xae80,
  KVM_GET_REGS = 0x8090ae81,
  KVM_SET_REGS = 0x4090ae82,
  KVM_GET_SREGS = 0x8138ae83,
  KVM_SET_SREGS = 0x4138ae84,
  KVM_INTERRUPT = 0x4004ae86,
  KVM_SET_CPUID2 = 0x4008ae90,
};

/* Why KVM_RUN came back. */
enum reason {
  KVM_EXIT_IO = 2,
  KVM_EXIT_HLT = 5,
  KVM_EXIT_MMIO = 6,
  KVM_EXIT_SHUTDOWN = 8,
  KVM_EXIT_FAIL_ENTRY = 9,
  KVM_EXIT_INTERNAL_ERROR = 17,
};

/* Leaves of CPUID. */
struct cpuid {
  u32 entries, pad;
  struct {
    u32 leaf, subleaf, flags, eax, ebx, ecx, edx, pad[3];
  } entry[64];
};

struct timer {
  u32 flags, pad[15];
};

/* A piece of the guest's memory is a piece of ours. */
struct memory_region {
  u32 slot, flags;
  u64 guest, size, here;
};

struct registers {
  u64 eax, ebx, ecx, edx, esi, edi, esp, ebp, more[8], eip, eflags;
};

struct segment {
  u64 base;
  u32 limit;
  u16 selector;
  u8 type, present, dpl, db, s, l, g, avl, unusable, pad;
};

struct table {
  u64 base;
  u16 limit, pad[3];
};

struct system_registers {
  struct segment cs, ds, es, fs, gs, ss, tr, ldt;
  struct table gdt, idt;
  u64 cr0, cr2, cr3, cr4, cr8, efer, apic_base, pending[4];
};

/* The page that a processor shares with us. */
struct run {
  u8 request_interrupt_window, immediate_exit, pad[6];
  u32 reason;
  u8 ready_for_interrupt, interrupt_flag;
  u16 flags;
  u64 cr8, apic_base;
  union {
    struct {
      u8 out, size;
      u16 port;
      u32 count;
      u64 data_offset;
    } io;
    struct {
      u64 address;
      u8 data[8];
      u32 length;
      u8 write;
    } mmio;
    u64 hardware_reason;
    u32 suberror;
  };
};

_Static_assert(sizeof(struct registers) == 144, "KVM_GET_REGS says so");
_Static_assert(sizeof(struct system_registers) == 312, "KVM_GET_SREGS says so");
_Static_assert(sizeof(struct memory_region) == 32, "KVM_SET_USER_MEMORY_REGION says so");
