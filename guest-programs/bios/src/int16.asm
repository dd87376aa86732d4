; int16.asm - INT 16h: keys from the buffer that INT 09h fills.
; 00h-02h are for programs of the 84-key keyboard: keys that it did not have are dropped, grey ones look like their old
; relatives. 10h-12h give what is in the buffer.

int16:
        ENTER_SERVICE
        mov dl, ah
        and dl, 0x10            ; DL: 10h for the enhanced functions
        cmp ah, 0x05
        je .store
        and ah, 0xEF
        jz .read
        cmp ah, 2
        jb .peek
        je .flags
        LEAVE_SERVICE

.read:  cli
        call key_next
        jz .got
        sti                     ; takes effect after HLT: no key can slip in between
        hlt
        jmp .read
.got:   mov [bp+F_AX], ax
        call key_drop
        LEAVE_SERVICE

.peek:  cli
        or byte [bp+F_FLAGS], ZF_BIT
        call key_next
        jnz .none
        and byte [bp+F_FLAGS], ~ZF_BIT
        mov [bp+F_AX], ax
.none:  or byte [bp+F_FLAGS+1], 2       ; a program that polls with interrupts off would never see a key
        LEAVE_SERVICE

.flags: mov al, [BDA_KBFLAG0]
        mov [bp+F_AL], al
        test dl, dl
        jz .done
        mov al, [BDA_KBFLAG1]   ; left Ctrl and Alt, locks held; right Ctrl and Alt from the other byte
        and al, 0x73
        mov ah, [BDA_KBFLAG3]
        and ah, KB3_RCTRL | KB3_RALT
        or al, ah
        test byte [BDA_KBFLAG1], 0x04   ; SysRq sits in bit 2 there, in bit 7 here
        jz .sys
        or al, 0x80
.sys:   mov [bp+F_AH], al
.done:  LEAVE_SERVICE

.store: mov ax, cx              ; CH = scan code, CL = character
        cli
        call key_store
        setc [bp+F_AL]
        LEAVE_SERVICE

; The next key that this caller can have -> AX, ZF set. ZF clear: there is none.
key_next:
        mov si, [BDA_KBHEAD]
        cmp si, [BDA_KBTAIL]
        je .none
        mov ax, [si]
        test dl, dl
        jnz .found
        cmp ah, 0xE0            ; grey Enter and slash
        jne .plain
        mov ah, 0x1C
        cmp al, '/'
        jne .found
        mov ah, 0x35
        jmp .found
.plain: cmp ah, 0x84            ; F11, F12 and the new combinations did not exist
        ja .skip
        cmp al, 0xE0
        jne .found
        test ah, ah             ; a real E0 typed with Alt and the keypad
        jz .found
        mov al, 0               ; a grey cursor key looks like the one on the keypad
.found: cmp ax, ax
        ret
.skip:  call key_drop
        jmp key_next
.none:  test sp, sp             ; the stack pointer is not 0: ZF clear
        ret

key_drop:
        mov si, [BDA_KBHEAD]
        add si, 2
        cmp si, [BDA_KBEND]
        jb .fits
        mov si, [BDA_KBSTART]
.fits:  mov [BDA_KBHEAD], si
        ret
