/* Three guests, each at most a page of code, which the client copies to 1000h of a machine of its own. Ports 10h and 11h
   tell the client a byte and a doubleword, port 12h asks it for a byte. There is no memory at D0000h: the client
   answers there, too. */
.intel_syntax noprefix
.section .rodata

.macro guest name
  .globl \name, \name\()_end
  \name:
  .set origin, \name - 0x1000
.endm

/* In real mode, at 0:1000h: ports, memory that is not there, an interrupt through the vector table, HLT. */
.code16
guest real
    mov al, 'R'
    out 0x10, al
    in al, 0x12
    inc al
    out 0x10, al
    mov ax, 0xd000
    mov ds, ax
    mov word ptr [4], 0x1234
    mov ax, [8]
    out 0x10, al
    xor ax, ax
    mov ds, ax
    mov word ptr [0x21 * 4], offset double_cx - origin
    mov word ptr [0x21 * 4 + 2], ax
    mov cx, 3
    int 0x21
    mov al, cl
    out 0x10, al
    hlt
double_cx:
    add cx, cx
    iret
real_end:

/* In protected mode with the client's descriptors: INT n, an interrupt from outside, #GP with its error code, and a
   triple fault. The three handlers are in the client's IDT. */
.code32
.globl on_int30, on_irq20, on_gp
guest protected
    mov ebx, 5
    int 0x30
    mov eax, ebx
    out 0x11, eax
    sti
    hlt
    mov eax, ecx
    out 0x11, eax
    mov eax, 0x50                       /* beyond the GDT */
    mov fs, eax
    lidt [no_idt - origin]
    int 0x30
on_int30:
    imul ebx, ebx
    iretd
on_irq20:
    mov ecx, 0xbeef
    iretd
on_gp:
    pop eax
    out 0x11, eax
    add dword ptr [esp], 2              /* past MOV FS */
    iretd
no_idt:
    .word 0
    .long 0
protected_end:

/* Turns paging on, with a directory at 4000h and a table at 5000h that maps the first 64 KiB to itself. An access to
   40000h faults; the handler tells CR2 and the error code, and maps that page to E000h. Then the page is mapped to F000h:
   INVLPG shows the other one. At last memory that is not there, through the page tables. */
.globl on_pf
guest paging
    mov edi, 0x5000
    mov eax, 0x3
    mov ecx, 16
fill:
    stosd
    add eax, 0x1000
    loop fill
    mov dword ptr [0x4000], 0x5003
    mov dword ptr [0x53d0], 0xd0003     /* F4000h */
    mov eax, 0x4000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80010000
    mov cr0, eax
    mov dword ptr [0x40000], 0x11112222
    mov eax, [0xe000]
    out 0x11, eax
    mov dword ptr [0xf000], 0x33334444
    mov dword ptr [0x5100], 0xf003
    invlpg [0x40000]
    mov eax, [0x40000]
    out 0x11, eax
    mov eax, [0x5100]                   /* with the accessed bit, not yet the dirty one */
    out 0x11, eax
    mov eax, [0xf4010]
    out 0x11, eax
    hlt
on_pf:
    mov eax, cr2
    out 0x11, eax
    pop eax
    out 0x11, eax
    mov dword ptr [0x5100], 0xe003
    iretd
paging_end:
