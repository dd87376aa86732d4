; writer.asm - writes patterns to the first disk for ever: the guest that tests/images/crash.rs kills.
; Started in real mode at 0000:7C00 without firmware. The test changes `seed` and `run` in the image.
;   nasm -f bin -o writer.bin writer.asm
; Each sector that it writes holds 64 times its step (with the run in the top byte) and its number. After every 32
; sectors comes FLUSH CACHE, and then the step as four bytes on port E9h.

        cpu 386
        bits 16
        org 0x7C00

SECTORS equ 0x2000              ; of the disk, a power of 2
buffer  equ 0x8000

        jmp short start
        align 4, db 0
seed:   dd 1                    ; at offset 4
run:    dd 0                    ; at offset 8
step:   dd 0

start:  cli
        cld
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        mov ebp, [seed]

next:   inc dword [step]
        imul ebp, ebp, 1664525
        add ebp, 1013904223
        mov ebx, ebp
        shr ebx, 16
        and ebx, SECTORS - 1

        mov di, buffer
        mov cx, 64
.fill:  mov eax, [step]
        or eax, [run]
        stosd
        mov eax, ebx
        stosd
        loop .fill

        call wait_ready
        mov dx, 0x1F6
        mov al, 0xE0            ; LBA, device 0
        out dx, al
        mov dx, 0x1F2
        mov al, 1
        out dx, al
        inc dx
        mov al, bl
        out dx, al
        inc dx
        mov al, bh
        out dx, al
        inc dx
        mov al, 0
        out dx, al
        mov dx, 0x1F7
        mov al, 0x30            ; WRITE SECTORS
        out dx, al
        call wait_ready
        mov dx, 0x1F0
        mov si, buffer
        mov cx, 256
        rep outsw
        call wait_ready

        test byte [step], 31
        jnz next
        mov dx, 0x1F7
        mov al, 0xE7            ; FLUSH CACHE
        out dx, al
        call wait_ready
        mov eax, [step]
        mov cx, 4
.tell:  out 0xE9, al
        shr eax, 8
        loop .tell
        jmp next

wait_ready:
        mov dx, 0x1F7
.wait:  in al, dx
        test al, 0x80
        jnz .wait
        ret
