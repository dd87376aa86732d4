#include "system.h"

int call(int number, u32 a, u32 b, u32 c) {
  int result;
  asm volatile("int 0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}

void print(const char *text) {
  u32 length = 0;
  while (text[length]) length++;
  call(SYS_WRITE, 1, (u32)text, length);
}

void print_hex(const char *before, u32 value) {
  char text[12], *at = text + sizeof text;
  *--at = 0;
  do *--at = "0123456789abcdef"[value & 15];
  while (value >>= 4);
  print(before);
  print(at);
}

void quit(int status) {
  call(SYS_EXIT, status, 0, 0);
  __builtin_unreachable();
}

void fail(const char *what, const char *why) {
  print(what);
  print(why);
  print("\n");
  quit(1);
}

int request(const char *what, int file, enum request request, const void *argument) {
  int result = call(SYS_IOCTL, file, request, (u32)argument);
  if (result >= 0) return result;
  print(what);
  print_hex(": error ", -result);
  fail("", "");
}

void *map(u32 size, int file) {
  enum { READ = 1, WRITE = 2, SHARED = 1, PRIVATE = 2, ANONYMOUS = 0x20 };
  const u32 arguments[] = {0, size, READ | WRITE, file < 0 ? PRIVATE | ANONYMOUS : SHARED, file, 0};
  u32 at = call(SYS_MMAP, (u32)arguments, 0, 0);
  if (at > 0xfffff000) fail("no memory", "");
  return (void *)at;
}

int open_kvm(void) {
  int kvm = call(SYS_OPEN, (u32) "/dev/kvm", READ_WRITE, 0);
  if (kvm >= 0) return kvm;
  print_hex("/dev/kvm does not open: error ", -kvm);
  fail("", "");
}

struct run *shared_page(int kvm, int processor) {
  return map(request("KVM_GET_VCPU_MMAP_SIZE", kvm, KVM_GET_VCPU_MMAP_SIZE, 0), processor);
}
