; int19.asm - INT 19h: load the first sector of a disk to 0000:7C00, or what a CD-ROM names, and jump there. INT 18h: there was none.

BOOT_FLOPPY     equ 1           ; device numbers in CMOS 3Dh and 38h
BOOT_DISK       equ 2
BOOT_CDROM      equ 3

int19:
        xor ax, ax
        mov ss, ax
        mov sp, 0x7C00
        mov ds, ax
        mov es, ax
        sti
        cld
        mov al, CMOS_BOOT
        call cmos_read
        mov bl, al              ; BX = the order, first device in the lowest nibble
        mov al, CMOS_BOOT3
        call cmos_read
        shr al, 4
        mov bh, al
        test bl, bl
        jnz .next
        mov bx, BOOT_CDROM*256 + BOOT_DISK*16 + BOOT_FLOPPY
.next:  mov al, bl
        and al, 15
        shr bx, 4
        cmp al, BOOT_FLOPPY
        je .floppy
        cmp al, BOOT_DISK
        je .disk
        cmp al, BOOT_CDROM
        je .cdrom
.left:  test bx, bx
        jnz .next
        int 0x18

.cdrom: push bx
        call cd_boot
        pop bx
        xor ax, ax
        mov ds, ax
        jmp .left

.floppy:
        mov al, CMOS_FLOPPY
        call cmos_read
        test al, 0xF0
        jz .next
        mov dl, 0x00
        mov si, .from_floppy
        jmp .try
.disk:  cmp byte [(BDA_SEG*16)+BDA_HD_COUNT], 0
        je .next
        mov dl, 0x80
        mov si, .from_disk
.try:   mov cx, 3               ; a floppy may need more than one try
.again: push cx
        mov ax, 0x0201
        push bx
        mov bx, 0x7C00
        mov cx, 0x0001
        mov dh, 0
        int 0x13
        pop bx
        pop cx
        jnc .loaded
        mov ah, 0
        int 0x13
        loop .again
        jmp .next
.loaded:
        cmp word [0x7C00+510], 0xAA55
        jne .next
        call print
        xor ax, ax
        mov ds, ax
        mov es, ax
        xor bx, bx
        xor cx, cx
        mov dh, 0
        jmp 0x0000:0x7C00
.from_floppy:   db 'Booting from floppy', 13, 10, 0
.from_disk:     db 'Booting from disk', 13, 10, 0

int18:
        mov si, .none
        call print
        sti
.halt:  hlt                     ; Ctrl-Alt-Del still works
        jmp .halt
.none:  db 'No bootable disk', 13, 10, 0
