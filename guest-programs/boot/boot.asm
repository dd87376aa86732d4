; boot.asm - a boot disk of four sectors that shows what a BIOS gives to a boot loader.
; The first sector loads the other three with INT 13h AH=02h. These print, on the screen and on COM1, the memory map,
; the time and the disk's geometry; then they read sector 3 again, by number if the BIOS can, and check its sum.
; It ends with OUT 0F4h: status 0 when all was well, 1 when not; without such a port it halts for ever.
; Everything that it prints is the same on each run of the same machine, except for the clock.

        cpu 386
        bits 16
        org 0x7C00

COM1            equ 0x3F8
DEBUG_EXIT      equ 0xF4
DATA_LBA        equ 3           ; the sector with a sum
BUFFER          equ 0x9000

start:  cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        cld
        jmp 0x0000:.here        ; some firmware starts us at 07C0:0000
.here:  mov [drive], dl
        call serial_init
        mov si, hello
        call print
        mov cx, 3               ; a floppy may need more than one try
.load:  push cx
        mov ax, 0x0203          ; three sectors
        mov bx, second
        mov cx, 0x0002          ; cylinder 0, sector 2
        mov dh, 0
        mov dl, [drive]
        int 0x13
        pop cx
        jnc second
        mov ah, 0
        int 0x13
        loop .load
        mov si, no_load
        call print
        mov al, 1
        jmp finish

; ---- output: each character goes to the screen and to COM1 ----
print:  lodsb                   ; DS:SI = text that ends in a zero
        test al, al
        jz .end
        call putc
        jmp print
.end:   ret

putc:   pusha
        push ax
        mov ah, 0x0E
        mov bx, 0x0007
        int 0x10
        mov dx, COM1+5
        mov cx, 0xFFFF          ; no port, no waiting for ever
.wait:  in al, dx
        test al, 0x20
        loopz .wait
        pop ax
        mov dx, COM1
        out dx, al
        popa
        ret

serial_init:                    ; 115200 baud, 8 data bits, no parity
        mov si, .settings
.next:  lodsw
        mov dx, COM1
        add dl, ah
        out dx, al
        cmp si, .settings_end
        jb .next
        ret
.settings:                      ; value, register
        db 0x00, 1, 0x80, 3, 0x01, 0, 0x00, 1, 0x03, 3, 0x03, 4
.settings_end:

hex32:  push eax                ; EAX as eight digits
        shr eax, 16
        call hex16
        pop eax
hex16:  push ax
        mov al, ah
        call hex8
        pop ax
hex8:   push ax
        shr al, 4
        call .digit
        pop ax
        and al, 15
.digit: cmp al, 10
        sbb al, 0x69            ; the old trick: 0-9 and A-F from a nibble
        das
        jmp putc

decimal:                        ; EAX
        pushad
        xor cx, cx
        mov ebx, 10
.digit: xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz .digit
.out:   pop ax
        add al, '0'
        call putc
        loop .out
        popad
        ret

finish: out DEBUG_EXIT, al      ; AL = status
        cli
.halt:  hlt
        jmp .halt

drive:  db 0
hello:  db 'boot: first sector', 13, 10, 0
no_load: db 'boot: cannot load', 13, 10, 0

        times 510-($-$$) db 0
        dw 0xAA55

; ---- sectors 1 and 2 (by number): what the first sector loaded ----
second: mov si, msg_drive
        call print
        mov al, [drive]
        call hex8
        call newline

        int 0x12                ; conventional memory
        movzx eax, ax
        call decimal
        mov si, msg_low
        call print

; The memory map, one line per entry.
        xor ebx, ebx
.map:   mov eax, 0xE820
        mov edx, 0x534D4150     ; 'SMAP'
        mov ecx, 20
        mov di, BUFFER
        int 0x15
        jc .map_end
        cmp eax, 0x534D4150
        jne .map_end
        mov si, msg_e820
        call print
        mov eax, [BUFFER+4]
        call hex32
        mov eax, [BUFFER]
        call hex32
        mov al, ' '
        call putc
        mov eax, [BUFFER+12]
        call hex32
        mov eax, [BUFFER+8]
        call hex32
        mov al, ' '
        call putc
        mov eax, [BUFFER+16]
        call decimal
        call newline
        test ebx, ebx
        jnz .map
.map_end:

; Date and time from the clock, in BCD.
        mov ah, 0x04
        int 0x1A
        jc .no_clock
        mov si, msg_clock
        call print
        mov al, ch
        call hex8
        mov al, cl
        call hex8
        mov al, '-'
        call putc
        mov al, dh
        call hex8
        mov al, '-'
        call putc
        mov al, dl
        call hex8
        mov al, ' '
        call putc
        mov ah, 0x02
        int 0x1A
        mov al, ch
        call hex8
        mov al, ':'
        call putc
        mov al, cl
        call hex8
        mov al, ':'
        call putc
        mov al, dh
        call hex8
        call newline
.no_clock:

; The geometry that INT 13h wants to be spoken to in.
        mov ah, 0x08
        mov dl, [drive]
        int 0x13
        push ds
        pop es
        jc .failed
        mov si, msg_geometry
        call print
        mov al, cl              ; cylinder bits 8-9
        shr al, 6
        mov ah, al
        mov al, ch
        inc ax
        movzx eax, ax
        call decimal
        mov si, msg_heads
        call print
        movzx eax, dh
        inc ax
        call decimal
        mov si, msg_sectors
        call print
        and cl, 0x3F
        movzx eax, cl
        call decimal
        call newline

; Sector 3 once more, by number where there are extensions, else by cylinder, head and sector.
        mov ah, 0x41
        mov bx, 0x55AA
        mov dl, [drive]
        int 0x13
        jc .chs
        cmp bx, 0xAA55
        jne .chs
        test cl, 1
        jz .chs
        mov si, msg_lba
        call print
        mov ah, 0x42
        mov si, packet
        jmp .read
.chs:   mov si, msg_chs
        call print
        mov ax, 0x0201
        mov bx, BUFFER
        mov cx, DATA_LBA+1
        mov dh, 0
.read:  mov dl, [drive]
        int 0x13
        jc .failed

; Its words add up to zero.
        mov si, BUFFER
        mov cx, 256
        xor dx, dx
.sum:   lodsw
        add dx, ax
        loop .sum
        mov si, msg_sum
        call print
        mov ax, dx
        call hex16
        call newline
        test dx, dx
        jnz .failed
        mov si, msg_done
        call print
        mov al, 0
        jmp finish
.failed:
        mov si, msg_failed
        call print
        mov al, 1
        jmp finish

newline:
        mov si, msg_newline
        jmp print

packet: db 16, 0                ; disk address packet: one sector
        dw 1
        dw BUFFER, 0
        dd DATA_LBA, 0

msg_newline:    db 13, 10, 0
msg_drive:      db 'boot: drive ', 0
msg_low:        db ' KiB conventional memory', 13, 10, 0
msg_e820:       db 'e820: ', 0
msg_clock:      db 'clock: ', 0
msg_geometry:   db 'disk: cylinders ', 0
msg_heads:      db ', heads ', 0
msg_sectors:    db ', sectors ', 0
msg_lba:        db 'sector 3 by number', 0
msg_chs:        db 'sector 3 by cylinder, head, sector', 0
msg_sum:        db ': sum ', 0
msg_done:       db 'boot: all is well', 13, 10, 0
msg_failed:     db 'boot: FAILED', 13, 10, 0

        times 3*512-($-$$) db 0

; ---- sector 3: 255 words of a pattern, and the one that makes the sum zero ----
%assign n 0
%assign total 0
%rep 255
%assign value ((n * 40503) + 12345) & 0xFFFF
        dw value
%assign total (total + value) & 0xFFFF
%assign n n+1
%endrep
        dw (0x10000 - total) & 0xFFFF
