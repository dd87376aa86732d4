; services.asm - a boot disk that calls the BIOS's services and says on COM1 which ones misbehave.
; ../test.sh boots it as a disk and as a floppy. Each check prints a letter; a lower-case one failed. Ends by port F4h.

        cpu 386
        bits 16
        org 0x7C00

start:  cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        mov [drive], dl
        mov ax, 0x00E3          ; COM1: 9600 baud, 8 data bits, no parity
        mov dx, 0
        int 0x14
        mov dl, [drive]
        mov ax, 0x0208
        mov bx, 0x7E00
        mov cx, 0x0002
        mov dh, 0
        int 0x13
        jnc tests
        mov al, 2
        out 0xF4, al
        cli
        hlt

report:                         ; AL = letter, carry set: failed
        jnc .good
        or al, 0x20
        inc byte [failures]
.good:  mov ah, al
        mov dx, 0x3F8+5
.wait:  in al, dx
        test al, 0x20
        jz .wait
        mov al, ah
        mov dx, 0x3F8
        out dx, al
        ret
drive:  db 0
failures: db 0
        times 510-($-$$) db 0
        dw 0xAA55

tests:  mov si, table
.next:  lodsb
        test al, al
        jz .end
        mov bx, [si]
        add si, 2
        push si
        push ax
        call bx
        pop ax
        mov cx, 0
        mov ds, cx
        mov es, cx
        call report
        pop si
        jmp .next
.end:   mov al, 10
        clc
        call report
        mov al, [failures]
        out 0xF4, al
        cli
        hlt

table:
%macro ENTRY 2
        db %1
        dw %2
%endmacro
        ENTRY 'T', t_ticks
        ENTRY 'W', t_wait
        ENTRY 'M', t_move
        ENTRY 'A', t_a20
        ENTRY 'S', t_scroll
        ENTRY 'D', t_scroll_down
        ENTRY 'C', t_cursor
        ENTRY 'E', t_teletype
        ENTRY 'P', t_string
        ENTRY 'K', t_keys
        ENTRY 'X', t_oldkeys
        ENTRY 'R', t_rtc
        ENTRY 'V', t_verify
        ENTRY 'F', t_write
        ENTRY 'B', t_bad
        ENTRY 'L', t_long
        ENTRY 'O', t_serial
        ENTRY 'G', t_registers
        db 0

failed: stc
        ret
good:   clc
        ret

t_ticks:                        ; time goes on while we halt
        mov ah, 0
        int 0x1A
        mov bx, dx
        hlt
        hlt
        hlt
        mov ah, 0
        int 0x1A
        cmp bx, dx
        je failed
        jmp good

t_wait: mov ah, 0               ; 220 ms are 4 ticks
        int 0x1A
        mov bx, dx
        mov ah, 0x86
        mov cx, 3
        mov dx, 0x5B60
        int 0x15
        jc failed
        mov ah, 0
        int 0x1A
        sub dx, bx
        cmp dx, 3
        jb failed
        cmp dx, 7
        ja failed
        jmp good

t_move: mov dword [0x9000], 0x12345678  ; to 1 MiB and back
        mov dword [0x9004], 0
        mov dword [gdt+0x12], 0x93009000
        mov dword [gdt+0x1A], 0x93100000
        call .go
        jc failed
        mov dword [gdt+0x12], 0x93100000
        mov dword [gdt+0x1A], 0x93009004
        call .go
        jc failed
        cmp dword [0x9004], 0x12345678
        jne failed
        jmp good
.go:    mov ah, 0x87
        mov cx, 2
        mov si, gdt
        int 0x15
        ret

t_a20:  mov ax, 0x2400          ; off: 1 MiB is 0 again
        int 0x15
        jc failed
        mov ax, 0xFFFF
        mov fs, ax
        mov dword [0x9000], 0x11111111
        mov dword [fs:0x9010], 0x22222222
        cmp dword [0x9000], 0x22222222
        jne failed
        mov ax, 0x2402
        int 0x15
        cmp al, 0
        jne failed
        mov ax, 0x2401
        int 0x15
        mov dword [fs:0x9010], 0x33333333
        cmp dword [0x9000], 0x22222222
        jne failed
        mov ax, 0x2402
        int 0x15
        cmp al, 1
        jne failed
        mov ax, 0x2403
        int 0x15
        jc failed
        jmp good

put:                            ; AL at row DH, column DL
        push ax
        mov ah, 2
        mov bh, 0
        int 0x10
        pop ax
        mov ah, 9
        mov bx, 0x001E
        mov cx, 1
        int 0x10
        ret
get:                            ; AX at row DH, column DL
        mov ah, 2
        mov bh, 0
        int 0x10
        mov ah, 8
        int 0x10
        ret

t_scroll:                       ; a window moves up by one line; what is beside it stays
        mov ax, 3
        int 0x10
        mov dx, 0x0505
        mov al, 'a'
        call put
        mov dx, 0x0605
        mov al, 'b'
        call put
        mov dx, 0x0604
        mov al, 'c'
        call put
        mov ax, 0x0601
        mov bh, 0x2F
        mov cx, 0x0505
        mov dx, 0x0606
        int 0x10
        mov dx, 0x0505
        call get
        cmp ax, 0x1E00+'b'
        jne failed
        mov dx, 0x0605
        call get
        cmp ax, 0x2F20
        jne failed
        mov dx, 0x0604
        call get
        cmp ax, 0x1E00+'c'
        jne failed
        jmp good

t_scroll_down:
        mov ax, 3
        int 0x10
        mov dx, 0x0000
        mov al, 'a'
        call put
        mov dx, 0x0100
        mov al, 'b'
        call put
        mov ax, 0x0702
        mov bh, 0x2F
        mov cx, 0x0000
        mov dx, 0x0300
        int 0x10
        mov dx, 0x0200
        call get
        cmp ax, 0x1E00+'a'
        jne failed
        mov dx, 0x0300
        call get
        cmp ax, 0x1E00+'b'
        jne failed
        mov dx, 0x0000
        call get
        cmp ax, 0x2F20
        jne failed
        mov dx, 0x0100
        call get
        cmp ax, 0x2F20
        jne failed
        mov ax, 0x0700          ; 0 lines clear
        mov bh, 0x07
        mov cx, 0x0000
        mov dx, 0x184F
        int 0x10
        mov dx, 0x0300
        call get
        cmp ax, 0x0720
        jne failed
        jmp good

t_cursor:
        mov ah, 2
        mov bh, 0
        mov dx, 0x0A14
        int 0x10
        mov ah, 3
        int 0x10
        cmp dx, 0x0A14
        jne failed
        mov dx, 0x3D4           ; the CRTC was told
        mov al, 0x0E
        out dx, al
        inc dx
        in al, dx
        mov ah, al
        dec dx
        mov al, 0x0F
        out dx, al
        inc dx
        in al, dx
        cmp ax, 10*80+20
        jne failed
        mov ah, 0x0F
        int 0x10
        cmp ax, 0x5003
        jne failed
        jmp good

t_teletype:                     ; the last cell scrolls the screen
        mov ax, 3
        int 0x10
        mov dx, 0x184E
        mov al, 'q'
        call put
        inc dx
        mov ah, 2
        mov bh, 0
        int 0x10
        mov ax, 0x0E00+'z'
        int 0x10
        mov ah, 3
        int 0x10
        cmp dx, 0x1800
        jne failed
        mov dx, 0x174F
        call get
        cmp al, 'z'
        jne failed
        mov dx, 0x174E
        call get
        cmp ax, 0x1E00+'q'
        jne failed
        mov dx, 0x0003          ; backspace moves and does not erase
        mov ah, 2
        int 0x10
        mov ax, 0x0E08
        int 0x10
        mov ah, 3
        int 0x10
        cmp dx, 0x0002
        jne failed
        jmp good

t_string:
        mov ax, 0x1303          ; attributes in the string, cursor moves
        mov bx, 0x0000
        mov cx, 2
        mov dx, 0x0200
        mov bp, .text
        int 0x10
        mov ah, 3
        mov bh, 0
        int 0x10
        cmp dx, 0x0202
        jne failed
        mov dx, 0x0201
        call get
        cmp ax, 0x4E00+'i'
        jne failed
        jmp good
.text:  db 'h', 0x1E, 'i', 0x4E

t_keys: mov ah, 0x11            ; nobody typed
        int 0x16
        jnz failed
        mov ah, 5               ; fill the buffer: 15 keys fit
        mov cx, 0x1E61
        mov bx, 15
.fill:  mov ah, 5
        int 0x16
        cmp al, 0
        jne failed
        dec bx
        jnz .fill
        mov ah, 5
        int 0x16
        cmp al, 1
        jne failed
        mov bx, 15
.drain: mov ah, 1
        int 0x16
        jz failed
        mov ah, 0
        int 0x16
        cmp ax, 0x1E61
        jne failed
        dec bx
        jnz .drain
        mov ah, 1
        int 0x16
        jnz failed
        jmp good

t_oldkeys:                      ; F11 is skipped, a grey arrow loses its mark, grey Enter looks like Enter
        mov cx, 0x8500
        mov ah, 5
        int 0x16
        mov cx, 0x48E0
        mov ah, 5
        int 0x16
        mov cx, 0xE00D
        mov ah, 5
        int 0x16
        mov cx, 0x48E0
        mov ah, 5
        int 0x16
        mov ah, 0
        int 0x16
        cmp ax, 0x4800
        jne failed
        mov ah, 0
        int 0x16
        cmp ax, 0x1C0D
        jne failed
        mov ah, 0x10
        int 0x16
        cmp ax, 0x48E0
        jne failed
        jmp good

t_rtc:  mov ah, 5               ; set the date and the time, read them back
        mov cx, 0x1999
        mov dx, 0x1231
        int 0x1A
        jc failed
        mov ah, 3
        mov cx, 0x1122
        mov dx, 0x3300
        int 0x1A
        jc failed
        mov ah, 4
        int 0x1A
        jc failed
        cmp cx, 0x1999
        jne failed
        cmp dx, 0x1231
        jne failed
        mov ah, 2
        int 0x1A
        jc failed
        cmp cx, 0x1122
        jne failed
        mov ah, 6               ; an alarm, once
        mov cx, 0x2233
        mov dx, 0
        int 0x1A
        jc failed
        mov ah, 6
        int 0x1A
        jnc failed
        mov ah, 7
        int 0x1A
        jc failed
        jmp good

t_verify:
        mov ax, 0x0404
        mov cx, 0x0001
        mov dh, 0
        mov dl, [drive]
        int 0x13
        jc failed
        jmp good

t_write:                        ; one sector out and in again
        mov di, 0x9000
        mov ax, 0x55AA
        mov cx, 256
        rep stosw
        mov ax, 0x0301
        mov bx, 0x9000
        mov cx, 0x000C
        mov dh, 0
        mov dl, [drive]
        int 0x13
        jc failed
        mov ax, 0x0201
        mov bx, 0xA000
        mov cx, 0x000C
        int 0x13
        jc failed
        cmp al, 1
        jne failed
        cmp word [0xA000], 0x55AA
        jne failed
        cmp word [0xA1FE], 0x55AA
        jne failed
        jmp good

t_bad:  mov ah, 0x53            ; what does not exist is refused
        mov al, 0
        int 0x15
        jnc failed
        cmp ah, 0x86
        jne failed
        mov ax, 0x8900
        int 0x15
        jnc failed
        mov ah, 0xC1
        int 0x15
        jnc failed
        mov ax, 0x0201
        mov dl, 0x87
        mov cx, 1
        mov dh, 0
        mov bx, 0x9000
        int 0x13
        jnc failed
        mov ah, 0x77
        mov dl, [drive]
        int 0x13
        jnc failed
        cmp ah, 1
        jne failed
        mov ax, 0x0201          ; sector 0
        mov cx, 0
        mov dh, 0
        mov dl, [drive]
        int 0x13
        jnc failed
        mov ah, 0x15            ; a disk that is not there
        mov dl, 0x87
        int 0x13
        jc failed
        cmp ah, 0
        jne failed
        jmp good

t_long: mov ax, 0x0224          ; across heads: 36 sectors, the last one holds 36 in its first byte
        mov bx, 0x1000
        mov es, bx
        xor bx, bx
        mov cx, 0x0001
        mov dh, 0
        mov dl, [drive]
        int 0x13
        jc failed
        cmp al, 36
        jne failed
        mov bx, 35*512
        cmp byte [es:bx], 36
        jne failed
        jmp good

t_serial:
        mov ah, 3
        mov dx, 0
        int 0x14
        test ah, 0x20
        jz failed
        mov ax, 0x0100+'.'
        mov dx, 0
        int 0x14
        test ah, 0x80
        jnz failed
        jmp good

t_registers:                    ; services keep what they don't return
        mov eax, 0xABCD0E41
        mov ebx, 0x12340007
        mov ecx, 0x23456789
        mov edx, 0x3456789A
        mov esi, 0x456789AB
        mov edi, 0x56789ABC
        mov ebp, 0x6789ABCD
        int 0x10
        cmp ebx, 0x12340007
        jne failed
        cmp ecx, 0x23456789
        jne failed
        cmp edx, 0x3456789A
        jne failed
        cmp esi, 0x456789AB
        jne failed
        cmp edi, 0x56789ABC
        jne failed
        cmp ebp, 0x6789ABCD
        jne failed
        jmp good

        align 8
gdt:    times 16 db 0
        dw 0xFFFF, 0, 0x9300, 0
        dw 0xFFFF, 0, 0x9300, 0
        times 16 db 0

        times 35*512-($-$$) db 0
        db 36
        times 2880*512-($-$$) db 0
