; chips.asm - the chips of the AT board, set as PC software expects them. Called once each by POST.

; Two 8259A: vectors 08h-0Fh and 70h-77h, edge triggered, the second on IRQ 2 of the first.
init_pics:
        mov al, 0x11            ; ICW1: edge, cascade, ICW4 follows
        out PIC1, al
        out PIC2, al
        mov al, 0x08            ; ICW2: vector base
        out PIC1+1, al
        mov al, 0x70
        out PIC2+1, al
        mov al, 0x04            ; ICW3: a slave on IRQ 2
        out PIC1+1, al
        mov al, 0x02            ; ICW3: this slave's identity
        out PIC2+1, al
        mov al, 0x01            ; ICW4: 8086 mode, EOI by command
        out PIC1+1, al
        out PIC2+1, al
        mov al, 0xB8            ; OCW1: let through timer, keyboard, cascade, floppy
        out PIC1+1, al
        mov al, 0x1E            ; clock, x87 errors and both ATA channels
        out PIC2+1, al
        ret

; Counter 0 divides 1.193182 MHz by 65536: 18.2 ticks a second. Mode 2 counts by one, so `wait_us` can read the time.
init_timer:
        mov al, 0x34
        out PIT+3, al
        mov al, 0
        out PIT, al
        out PIT, al
        mov al, 0x54            ; counter 1: memory refresh, as on an AT
        out PIT+3, al
        mov al, 18
        out PIT+1, al
        ret

; Both 8237: cleared; channel 4 passes the first controller's requests through.
init_dma:
        mov al, 0
        out 0x0D, al            ; master clear
        out 0xDA, al
        mov al, 0xC0            ; channel 4: cascade mode
        out 0xD6, al
        mov al, 0
        out 0xD4, al            ; and not masked
        ret

; Keyboard controller: self test, interrupts on, scan codes translated to set 1; then the keyboard's own reset.
; Nothing here waits for ever: a machine without a keyboard boots too.
init_keyboard:
        mov cx, 32              ; throw away what a user typed before
.drain: in al, KBC_CMD
        test al, 1
        jz .empty
        in al, KBC_DATA
        loop .drain
.empty: mov al, 0xAA            ; controller self test; answers 55h
        call kbc_command
        call kbc_read
        mov al, 0x60            ; write the command byte:
        call kbc_command
        mov al, 0x65            ; IRQ 1 on, system flag, mouse port off, translate
        call kbc_write
        mov al, 0xAE            ; keyboard interface on
        call kbc_command
        mov al, 0xFF            ; reset the keyboard; it answers FAh, then AAh
        call kbc_write
        call kbc_read
        call kbc_read
        mov al, 0xF4            ; start scanning; answers FAh
        call kbc_write
        call kbc_read
        ret

kbc_command:
        call kbc_ready
        out KBC_CMD, al
        ret
kbc_write:
        call kbc_ready
        out KBC_DATA, al
        ret

kbc_ready:                      ; wait until the controller takes a byte
        push ax
        mov cx, 0xFFFF
.wait:  in al, KBC_CMD
        test al, 2
        loopnz .wait
        pop ax
        ret

kbc_read:                       ; AL = next byte, if one comes in time
        mov cx, 0xFFFF
.wait:  in al, KBC_CMD
        test al, 1
        loopz .wait
        in al, KBC_DATA
        ret

; Serial ports: a UART is there if its interrupt enable register holds four bits and no more.
init_serial:
        xor di, di
        mov si, .bases
.next:  cs lodsw
        test ax, ax
        jz .count
        mov dx, ax
        inc dx
        mov al, 0x0A
        out dx, al
        in al, dx
        cmp al, 0x0A
        mov al, 0
        out dx, al
        jne .next
        dec dx
        mov [di+BDA_COM], dx
        add di, 2
        jmp .next
.count: shl di, 8               ; ports in bits 9-11 of the equipment word: DI is twice their number
        or [BDA_EQUIPMENT], di
        ret
.bases: dw 0x3F8, 0x2F8, 0x3E8, 0x2E8, 0
