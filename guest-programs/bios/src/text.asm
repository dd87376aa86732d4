; text.asm - character cells: reading, writing, scrolling, teletype. INT 10h calls these; ES = the screen's segment.

; DI = address of the cell at row DH, column DL of page BH.
cell_address:
        push ax
        push bx
        push dx
        mov bl, dh
        mov di, dx
        and di, 0xFF
        movzx ax, bl
        mul word [BDA_COLS]
        add di, ax
        add di, di
        movzx ax, bh
        and al, 7
        mul word [BDA_PAGESIZE]
        add di, ax
        pop dx
        pop bx
        pop ax
        ret

; BH = page -> DI = address of its cursor's cell, DX = row and column.
cursor_cell:
        push bx
        movzx bx, bh
        and bx, 7
        add bx, bx
        mov dx, [bx+BDA_CURSOR]
        pop bx
        jmp cell_address

; Shows the cursor of the page on display.
crtc_cursor:
        mov bh, [BDA_PAGE]
        call cursor_cell
        shr di, 1
        mov cx, di
        mov dx, [BDA_CRTC]
        mov al, 0x0E
        mov ah, ch
        out dx, ax
        mov al, 0x0F
        mov ah, cl
        out dx, ax
        ret

; AH=08h, BH = page.
video_read_cell:
        mov bh, [bp+F_BH]
        call cursor_cell
        mov ax, [es:di]
        mov [bp+F_AX], ax
        ret

; AH=09h, AL = character, BL = attribute, CX = how many.
video_write_cell:
        mov bx, [bp+F_BX]
        call cursor_cell
        mov ah, bl
        rep stosw
        ret

; AH=0Ah: the attributes stay.
video_write_char:
        mov bh, [bp+F_BH]
        call cursor_cell
        jcxz .end
.next:  stosb
        inc di
        loop .next
.end:   ret

; AH=06h and 07h: AL = lines (0 clears), BH = attribute, CH, CL to DH, DL = window.
video_scroll_up:
        mov bh, [bp+F_BH]
        mov bl, [BDA_PAGE]
        jmp scroll_up

video_scroll_down:
        mov bh, [bp+F_BH]
        mov bl, [BDA_PAGE]
        call scroll_window
        jc .end
        mov ah, dh                      ; from the last row upwards
.row:   mov dh, ah
        sub dh, al
        cmp dh, ch
        jl .blank                       ; signed: the source may be above row 0
        call copy_row
        jmp .next
.blank: call blank_row
.next:  dec ah
        cmp ah, ch
        jge .row
.end:   ret

; AL, BH, CX, DX as above, BL = page.
scroll_up:
        call scroll_window
        jc .end
        mov si, dx                      ; the last row, in the high byte
        mov ah, ch
.row:   mov dx, si
        mov ch, dh                      ; CH = last row
        mov dh, ah
        add dh, al
        cmp dh, ch
        ja .blank
        call copy_row
        jmp .next
.blank: call blank_row
.next:  inc ah
        cmp ah, ch
        jbe .row
.end:   ret

; Clips the window to the screen; 0 lines, or too many, become all of its lines. Carry set: nothing is left.
scroll_window:
        push bx
        mov bx, [BDA_COLS]
        dec bl
        cmp dl, bl
        jbe .columns
        mov dl, bl
.columns:
        cmp dh, [BDA_ROWS]
        jbe .rows
        mov dh, [BDA_ROWS]
.rows:  pop bx
        cmp dl, cl
        jb .nothing
        mov ah, dh
        sub ah, ch
        jb .nothing
        inc ah                          ; rows in the window
        test al, al
        jz .all
        cmp al, ah
        jbe .end
.all:   mov al, ah
.end:   clc
        ret
.nothing:
        stc
        ret

; Copies the columns CL to DL of row DH to row AH, page BL.
copy_row:
        pusha
        push ds
        xchg bl, bh
        movzx si, dl
        movzx cx, cl
        sub si, cx
        inc si                          ; cells
        mov dl, cl
        call cell_address
        push di
        mov dh, ah
        call cell_address
        mov cx, si
        pop si
        push es
        pop ds
        rep movsw
        pop ds
        popa
        ret

; Fills the columns CL to DL of row AH with blanks of attribute BH, page BL.
blank_row:
        pusha
        xchg bl, bh
        mov dh, ah
        movzx si, dl
        movzx cx, cl
        sub si, cx
        inc si
        mov dl, cl
        call cell_address
        mov cx, si
        mov ah, bl
        mov al, ' '
        rep stosw
        popa
        ret

; AH=0Eh, AL = character, on the page in BH.
video_teletype:
        mov bh, [bp+F_BH]
        and bh, 7
        call teletype
        jmp crtc_cursor

; Writes AL at the cursor of page BH, keeping attributes, and moves that cursor; the hardware's follows later.
teletype:
        call cursor_cell
        cmp al, 7
        je beep
        cmp al, 8
        je .backspace
        cmp al, 10
        je .line
        cmp al, 13
        je .return
        mov [es:di], al
        inc dl
        cmp dl, [BDA_COLS]
        jb .place
        mov dl, 0
.line:  inc dh
        cmp dh, [BDA_ROWS]
        jbe .place
        mov dh, [BDA_ROWS]
        push bx
        push cx
        push dx
        push ax
        call .scroll
        pop ax
        pop dx
        pop cx
        pop bx
.place: push bx
        movzx bx, bh
        add bx, bx
        mov [bx+BDA_CURSOR], dx
        pop bx
        ret
.backspace:
        test dl, dl
        jz .place
        dec dl
        jmp .place
.return:
        mov dl, 0
        jmp .place
.scroll:                                ; one line up, the new line in the colours of the old last one
        mov dl, 0
        call cell_address
        mov ah, [es:di+1]
        mov bl, bh
        mov bh, ah
        mov al, 1
        mov cx, 0
        mov dh, [BDA_ROWS]
        mov dl, [BDA_COLS]
        dec dl
        jmp scroll_up

; The bell: about 900 Hz from timer 2 for an eighth of a second.
beep:
        pushad
        mov al, 0xB6
        out PIT+3, al
        mov ax, 1331
        out PIT+2, al
        mov al, ah
        out PIT+2, al
        in al, PORT_B
        push ax
        or al, 3
        out PORT_B, al
        mov ecx, 125000
        call wait_us
        pop ax
        out PORT_B, al
        popad
        ret

; AH=13h: AL bit 0 = move the cursor, bit 1 = attributes in the string; BH = page, BL = attribute, CX = length,
; DH, DL = where, ES:BP = the string.
video_string:
        cmp al, 3
        ja .end
        jcxz .end
        mov bh, [bp+F_BH]
        and bh, 7
        movzx di, bh
        add di, di
        push word [di+BDA_CURSOR]
        mov [di+BDA_CURSOR], dx
        mov si, [bp+F_BP]
.next:  mov fs, [bp+F_ES]
        mov ah, [bp+F_BL]
        mov al, [fs:si]
        inc si
        test byte [bp+F_AL], 2
        jz .attr
        mov ah, [fs:si]
        inc si
.attr:  push cx
        cmp al, 13                      ; control characters leave no attribute behind
        ja .cell
        cmp al, 7
        je .put
        cmp al, 8
        je .put
        cmp al, 10
        je .put
        cmp al, 13
        je .put
.cell:  call cursor_cell
        mov [es:di+1], ah
.put:   push si
        call teletype
        pop si
        pop cx
        loop .next
        pop ax
        test byte [bp+F_AL], 1
        jnz .show
        movzx di, bh
        add di, di
        mov [di+BDA_CURSOR], ax
.show:  jmp crtc_cursor
.end:   ret
