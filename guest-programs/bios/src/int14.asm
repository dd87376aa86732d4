; int14.asm - INT 14h: serial ports by polling. INT 17h: there are no printers.

; DX = port number, 0-3.
int14:
        ENTER_SERVICE
        cmp dx, 3
        ja .leave
        mov bx, dx
        add bx, bx
        mov dx, [bx+BDA_COM]
        test dx, dx             ; no such port: nothing changes
        jz .leave
        cmp ah, 1
        jb .init
        je .send
        cmp ah, 3
        jb .receive
        je .status
.leave: LEAVE_SERVICE

.init:  movzx bx, al            ; AL bits 7-5: speed
        shr bx, 5
        add bx, bx
        mov ah, al
        add dx, 3
        mov al, 0x80            ; the divisor shows in registers 0 and 1
        out dx, al
        sub dx, 3
        mov cx, [cs:bx+.divisors]
        mov al, cl
        out dx, al
        inc dx
        mov al, ch
        out dx, al
        add dx, 2
        mov al, ah              ; bits 4-0 are the line control register's
        and al, 0x1F
        out dx, al
        sub dx, 2
        mov al, 0               ; no interrupts
        out dx, al
        dec dx
.status:
        add dx, 5
        in al, dx
        mov [bp+F_AH], al
        inc dx
        in al, dx
        mov [bp+F_AL], al
        LEAVE_SERVICE

.send:  push ax
        add dx, 4
        mov al, 0x03            ; DTR, RTS
        out dx, al
        inc dx
        mov ah, 0x20            ; wait for the holding register
        call .wait
        pop cx
        mov [bp+F_AH], al
        jc .leave
        sub dx, 5
        mov al, cl
        out dx, al
        LEAVE_SERVICE

.receive:
        add dx, 4
        mov al, 0x01            ; DTR
        out dx, al
        inc dx
        mov ah, 0x01            ; wait for data
        call .wait
        mov cl, al
        and cl, 0x9E            ; errors and the time-out
        mov [bp+F_AH], cl
        jc .leave
        sub dx, 5
        in al, dx
        mov [bp+F_AL], al
        LEAVE_SERVICE

.wait:  mov ecx, 0x100000       ; DX = line status port, AH = bit. Carry set: bit 7 of AL says "too late"
.again: in al, dx
        test al, ah
        jnz .ready
        dec ecx
        jnz .again
        or al, 0x80
        stc
        ret
.ready: and al, 0x7F
        clc
        ret
.divisors:
        dw 1047, 768, 384, 192, 96, 48, 24, 12  ; 110 to 9600 baud

int17:
        cmp ah, 2
        ja .end
        mov ah, 0x01            ; time-out
.end:   iret
