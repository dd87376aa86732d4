/* What the two programs ask of Linux: its system calls, by number and without a C library. */
#pragma once
#include "kvm.h"

enum {
  SYS_EXIT = 1,
  SYS_READ = 3,
  SYS_WRITE = 4,
  SYS_OPEN = 5,
  SYS_CLOSE = 6,
  SYS_LSEEK = 19,
  SYS_GETPID = 20,
  SYS_IOCTL = 54,
  SYS_FCNTL = 55,
  SYS_SIGACTION = 67,
  SYS_MMAP = 90,
  SYS_MUNMAP = 91,
  SYS_POLL = 168,
};

enum { READ_WRITE = 2 /* O_RDWR */, END = 2 /* SEEK_END */ };

/* System call `number`: its result, or the negated error. */
int call(int number, u32 a, u32 b, u32 c);

void print(const char *text);
void print_hex(const char *before, u32 value);
__attribute__((noreturn)) void quit(int status);

/* Prints a sentence and ends with status 1. */
__attribute__((noreturn)) void fail(const char *what, const char *why);

/* An ioctl that may not fail: its result. */
int request(const char *what, int file, enum request request, const void *argument);

/* `size` bytes of new memory, or of `file` if it is one, which other holders of the file see. */
void *map(u32 size, int file);

/* Opens /dev/kvm. */
int open_kvm(void);

/* The page that processor `processor` shares with the program. */
struct run *shared_page(int kvm, int processor);
