; int09.asm - IRQ 1: one scan code (set 1) arrives. Shift keys change the flags at 40h:17h; other keys go through the
; tables in keymap.asm into the key buffer, from which INT 16h reads.

KB0_RSHIFT      equ 0x01        ; BDA_KBFLAG0
KB0_LSHIFT      equ 0x02
KB0_CTRL        equ 0x04
KB0_ALT         equ 0x08
KB0_SCROLL      equ 0x10
KB0_NUM         equ 0x20
KB0_CAPS        equ 0x40
KB0_INSERT      equ 0x80
KB1_LCTRL       equ 0x01        ; BDA_KBFLAG1
KB1_LALT        equ 0x02
KB3_E1          equ 0x01        ; BDA_KBFLAG3: the last byte was the prefix E1
KB3_E0          equ 0x02
KB3_RCTRL       equ 0x04
KB3_RALT        equ 0x08

int09:
        ENTER_SERVICE
        in al, KBC_CMD
        and al, 0x21            ; a byte, and not from the mouse
        cmp al, 1
        jne .eoi
        in al, KBC_DATA
        mov ah, 0x4F            ; programs may look first: INT 15h AH=4Fh, carry clear swallows the key
        stc
        int 0x15
        jnc .eoi
        call key_code
.eoi:   cli
        mov al, EOI
        out PIC1, al
        LEAVE_SERVICE

key_code:                       ; AL = scan code
        cmp al, 0xE0
        je .e0
        cmp al, 0xE1
        je .e1
        mov bh, [BDA_KBFLAG3]
        test bh, KB3_E1         ; Pause sends E1 1D 45, E1 9D C5: two bytes to pass over
        jnz .pause
        and byte [BDA_KBFLAG3], ~KB3_E0
        and bh, KB3_E0          ; BH: this code had the prefix E0
        mov ah, al
        and al, 0x7F            ; AL = key, AH bit 7 = released
        call key_modifier
        jc .end                 ; it was a shift key
        test ah, 0x80
        jz key_press
.end:   ret
.e0:    or byte [BDA_KBFLAG3], KB3_E0
        ret
.e1:    or byte [BDA_KBFLAG3], KB3_E1
        ret
.pause: and al, 0x7F
        cmp al, 0x45
        jne .end
        and byte [BDA_KBFLAG3], ~KB3_E1
        ret

; Shift, Ctrl, Alt and the lock keys. Carry set: done.
key_modifier:
        cmp al, 0x2A
        je .lshift
        cmp al, 0x36
        je .rshift
        cmp al, 0x1D
        je .ctrl
        cmp al, 0x38
        je .alt
        mov cl, KB0_CAPS
        cmp al, 0x3A
        je .lock
        mov cl, KB0_NUM
        cmp al, 0x45
        je .lock
        mov cl, KB0_SCROLL
        cmp al, 0x46
        je .scroll
        clc
        ret
.lshift:
        mov cl, KB0_LSHIFT
        jmp .shift
.rshift:
        mov cl, KB0_RSHIFT
.shift: test bh, bh             ; E0 2A and E0 36 are not real: the keyboard undoes Shift for the grey keys
        jnz .done
        mov di, BDA_KBFLAG0
        call key_hold
        jmp .done
.ctrl:  mov cl, KB0_CTRL
        mov di, BDA_KBFLAG0
        call key_hold
        mov cl, KB1_LCTRL
        mov di, BDA_KBFLAG1
        test bh, bh
        jz .left
        mov cl, KB3_RCTRL
        mov di, BDA_KBFLAG3
.left:  call key_hold
        jmp .done
.alt:   mov cl, KB0_ALT
        mov di, BDA_KBFLAG0
        call key_hold
        mov cl, KB1_LALT
        mov di, BDA_KBFLAG1
        test bh, bh
        jz .leftalt
        mov cl, KB3_RALT
        mov di, BDA_KBFLAG3
.leftalt:
        call key_hold
        test ah, 0x80           ; Alt released: a number typed on the keypad becomes a character
        jz .done
        xor ax, ax
        xchg al, [BDA_ALTNUM]
        test al, al
        jz .done
        call key_store
        jmp .done
.scroll:
        test bh, bh             ; E0 46 is Ctrl-Break
        jnz .break
        test byte [BDA_KBFLAG0], KB0_CTRL
        jnz .break
.lock:  mov di, BDA_KBFLAG1     ; the same bit there says that the key is down: no repeats
        test ah, 0x80
        jnz .unlock
        test [di], cl
        jnz .done
        or [di], cl
        xor [BDA_KBFLAG0], cl
        jmp .done
.unlock:
        call key_hold
        jmp .done
.break: test ah, 0x80
        jnz .done
        mov byte [BDA_BREAK], 0x80
        mov cx, [BDA_KBSTART]   ; the buffer is emptied, and a zero stored
        mov [BDA_KBHEAD], cx
        mov [BDA_KBTAIL], cx
        int 0x1B
        xor ax, ax
        call key_store
.done:  stc
        ret

key_hold:                       ; sets or clears the bits CL at [DI] as the key goes down or up
        test ah, 0x80
        jnz .up
        or [di], cl
        ret
.up:    not cl
        and [di], cl
        not cl
        ret

; A key goes down: AL = code, BH not 0 for an E0 key.
key_press:
        mov cl, [BDA_KBFLAG0]
        mov ch, cl
        and ch, KB0_CTRL | KB0_ALT
        cmp al, 0x53            ; Ctrl-Alt-Del
        jne .not_reset
        cmp ch, KB0_CTRL | KB0_ALT
        je key_restart
.not_reset:
        cmp al, 0x37
        jne .not_print
        test bh, bh
        jnz .print              ; E0 37: Print Screen
.not_print:
        cmp al, KEYMAP_LAST
        ja .end
        movzx si, al
        shl si, 3               ; four words per key: plain, shift, ctrl, alt
        add si, keymap
        test cl, KB0_ALT
        jnz .alt
        test cl, KB0_CTRL
        jnz .ctrl
        test bh, bh
        jnz .grey
        mov ch, cl              ; which lock acts on this key?
        cmp al, 0x47
        jb .caps
        cmp al, 0x53
        ja .shift
        test ch, KB0_NUM
        jz .shift
        jmp .flip
.caps:  test ch, KB0_CAPS
        jz .shift
        mov dl, [cs:si]         ; Caps Lock acts on letters
        sub dl, 'a'
        cmp dl, 26
        jae .shift
.flip:  test ch, KB0_LSHIFT | KB0_RSHIFT
        jz .upper
        jmp .plain
.shift: test ch, KB0_LSHIFT | KB0_RSHIFT
        jnz .upper
.plain: mov ax, [cs:si]
        jmp .store
.upper: mov ax, [cs:si+2]
        jmp .store
.ctrl:  mov ax, [cs:si+4]
        test bh, bh
        jz .store
        cmp ax, 0x1C0A          ; grey Enter and grey slash keep their characters
        je .grey_ctrl_enter
        cmp byte [cs:si+1], 0x35
        je .grey_ctrl_slash
        mov al, 0xE0
        jmp .store
.grey_ctrl_enter:
        mov ah, 0xE0
        jmp .store
.grey_ctrl_slash:
        mov ax, 0x9500
        jmp .store
.grey:  mov ah, al
        mov al, 0xE0
        cmp ah, 0x1C
        je .grey_enter
        cmp ah, 0x35
        je .grey_slash
        cmp ah, 0x52            ; Insert toggles a flag as well
        jne .store
        xor byte [BDA_KBFLAG0], KB0_INSERT
        jmp .store
.grey_enter:
        mov ax, 0xE00D
        jmp .store
.grey_slash:
        mov ax, 0xE02F
        jmp .store
.alt:   test bh, bh
        jnz .grey_alt
        mov dl, al              ; Alt and keypad digits build a character code
        sub dl, 0x47
        cmp dl, 0x52-0x47
        ja .alt_key
        movzx si, dl
        mov dl, [cs:si+keypad_digits]
        test dl, dl
        js .alt_sign
        mov al, [BDA_ALTNUM]
        mov dh, 10
        push dx
        mul dh
        pop dx
        add al, dl
        mov [BDA_ALTNUM], al
        ret
.alt_sign:
        movzx si, al
        shl si, 3
        add si, keymap
.alt_key:
        mov ax, [cs:si+6]
        jmp .store
.grey_alt:
        mov ah, al
        mov al, 0
        cmp ah, 0x1C
        je .grey_alt_enter
        cmp ah, 0x35
        je .grey_alt_slash
        add ah, 0x50            ; Home 97h ... Delete A3h
        jmp .store
.grey_alt_enter:
        mov ah, 0xA6
        jmp .store
.grey_alt_slash:
        mov ah, 0xA4
.store: test ax, ax             ; 0: this combination means nothing
        jnz key_store
.end:   ret
.print: int 0x05
        ret

; AX = scan code and character, into the buffer. Carry set: it is full, the key is lost.
key_store:
        mov si, [BDA_KBTAIL]
        mov di, si
        add si, 2
        cmp si, [BDA_KBEND]
        jb .fits
        mov si, [BDA_KBSTART]
.fits:  cmp si, [BDA_KBHEAD]
        je .full
        mov [di], ax
        mov [BDA_KBTAIL], si
        clc
        ret
.full:  stc
        ret

key_restart:
        mov word [BDA_WARM], 0x1234
        jmp BIOS_SEG:post
