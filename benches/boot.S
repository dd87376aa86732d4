/* A boot sector that starts a Multiboot kernel, for a machine that takes nothing but disks. peers.py puts it in front
   of a disk image: sector 0 is this, sector 1 the parameters below, then the kernel's bytes. The BIOS reads the disk
   (INT 13h AH=42h), and the kernel gets the processor as section 3.2 of the Multiboot Specification says. */
.intel_syntax noprefix

#define BLOCK 0x8000            /* where sector 1 and what follows it go */
#define DESTINATION BLOCK + 0   /* parameters: where the kernel's bytes go, */
#define LENGTH      BLOCK + 4   /* how many they are, */
#define ZEROES      BLOCK + 8   /* how many bytes of zero come after them, */
#define ENTRY       BLOCK + 12  /* and where it starts */
#define INFO        BLOCK + 32  /* the Multiboot information */
#define KERNEL      BLOCK + 512
#define MAGIC       0x2BADB002
#define CODE        0x08
#define DATA        0x10

.code16
.text
.globl _start
_start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    sti
    mov si, offset packet
read:                           /* a sector at a time: no BIOS refuses that */
    mov ah, 0x42
    int 0x13                    /* DL is still the drive that we came from */
    jc failed
    add word ptr [packet + 6], 512 / 16
    inc word ptr [packet + 8]
    cmp word ptr [packet + 8], SECTORS
    jbe read
    cli
    in al, 0x92                 /* the A20 gate */
    or al, 2
    out 0x92, al
    lgdt [gdt_register]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    ljmp CODE, offset protected

failed:
    hlt
    jmp failed

.code32
protected:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    cld
    mov esi, KERNEL
    mov edi, [DESTINATION]
    mov ecx, [LENGTH]
    rep movsb
    mov ecx, [ZEROES]
    xor eax, eax
    rep stosb
    mov eax, MAGIC
    mov ebx, INFO
    jmp [ENTRY]

.balign 8
gdt:
    .quad 0
    .quad 0x00CF9A000000FFFF    /* code, 4 GiB */
    .quad 0x00CF92000000FFFF    /* data, 4 GiB */
gdt_register:
    .word . - gdt - 1
    .long gdt

.balign 4
packet:                         /* the disk address packet: */
    .byte 16, 0
    .word 1                     /* how many sectors, */
    .word 0, BLOCK / 16         /* to where (offset, segment), */
    .quad 1                     /* from which: 1 to SECTORS, as peers.py says */

.org 510
    .byte 0x55, 0xAA
