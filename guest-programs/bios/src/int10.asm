; int10.asm - INT 10h, video services for the text modes. text.asm has the work on character cells.
; A handler finds AX, CX, DX as its caller gave them, DS = BIOS data area, ES = the screen's segment; BX it reloads.
; Functions that don't exist here (graphics) leave everything as it is: that is how callers notice.

int10:
        ENTER_SERVICE
        push word 0xB800
        cmp byte [BDA_VMODE], 7
        jne .colour
        add sp, 2
        push word 0xB000
.colour:
        pop es
        push word .return       ; handlers end with RET
        DISPATCH int10_table, (int10_table_end-int10_table)/2, .none
.none:  ret
.return:
        LEAVE_SERVICE

int10_table:
        dw video_set_mode       ; 00
        dw video_cursor_shape   ; 01
        dw video_set_cursor     ; 02
        dw video_get_cursor     ; 03
        dw video_ignore         ; 04 light pen
        dw video_set_page       ; 05
        dw video_scroll_up      ; 06
        dw video_scroll_down    ; 07
        dw video_read_cell      ; 08
        dw video_write_cell     ; 09
        dw video_write_char     ; 0A
        dw video_border         ; 0B
        dw video_ignore         ; 0C write pixel
        dw video_ignore         ; 0D read pixel
        dw video_teletype       ; 0E
        dw video_get_mode       ; 0F
        dw video_palette        ; 10
        dw video_font           ; 11
        dw video_alternate      ; 12
        dw video_string         ; 13
        dw video_ignore         ; 14
        dw video_ignore         ; 15
        dw video_ignore         ; 16
        dw video_ignore         ; 17
        dw video_ignore         ; 18
        dw video_ignore         ; 19
        dw video_combination    ; 1A
int10_table_end:

; AH=04h: no light pen was triggered. The others: no graphics here.
video_ignore:
        cmp ah, 4
        jne .end
        mov byte [bp+F_AH], 0
.end:   ret

; AH=00h, AL = mode; bit 7 keeps what is on the screen. Modes other than 0-3 and 7 are refused by doing nothing.
video_set_mode:
        mov ah, al
        and al, 0x7F
        cmp al, 7
        je .known
        cmp al, 3
        ja .end
.known: mov [BDA_VMODE], al
        mov cx, 0x3D4
        mov bx, 0xB800
        cmp al, 7
        jne .colour
        mov cx, 0x3B4
        mov bx, 0xB000
.colour:
        mov [BDA_CRTC], cx
        mov es, bx
        mov cx, 80
        mov dx, 0x1000
        cmp al, 2
        jae .wide
        mov cx, 40
        mov dx, 0x0800
.wide:  mov [BDA_COLS], cx
        mov [BDA_PAGESIZE], dx
        mov byte [BDA_ROWS], 24
        mov word [BDA_CHARHEIGHT], 16
        mov byte [BDA_VCONTROL], 0x60   ; VGA with 256 KiB
        and ah, 0x80                    ; bit 7: the screen was kept
        or [BDA_VCONTROL], ah
        mov byte [BDA_VSWITCHES], 0xF9
        mov byte [BDA_VFLAGS], 0x11     ; VGA active, 400 lines
        mov byte [BDA_DCC], 0x0B
        mov byte [BDA_MODEREG], 0x29
        mov byte [BDA_PALETTE], 0x30
        push ax
        call vga_set_mode
        pop ax
        test ah, ah
        jnz .kept
        xor di, di
        mov cx, 0x4000
        mov ax, 0x0720                  ; blanks, light grey on black
        rep stosw
.kept:  push ds
        pop es
        xor ax, ax
        mov di, BDA_CURSOR
        mov cx, 8
        rep stosw
        mov [BDA_PAGESTART], ax
        mov [BDA_PAGE], al
        mov word [BDA_CURSHAPE], 0x0607
        mov cx, 0x0D0E
        call crtc_cursor_shape
        call crtc_cursor
        mov al, 0x30                    ; what the mode leaves in AL, as on a VGA
        mov [bp+F_AL], al
.end:   ret

; AH=01h, CH, CL = first and last line of the cursor. Programs still count in the 8 lines of the CGA: scale to 16.
video_cursor_shape:
        mov [BDA_CURSHAPE], cx
        test ch, 0x20                   ; bit 5 hides it
        jnz crtc_cursor_shape
        cmp ch, 8
        jae crtc_cursor_shape
        cmp cl, 8
        jae crtc_cursor_shape
        cmp ch, cl
        ja crtc_cursor_shape
        add cl, cl
        inc cl
        add ch, ch
        cmp cl, 15
        jne crtc_cursor_shape
        mov ax, cx                      ; the usual underline 6-7 is lines 13-14
        sub al, ah
        cmp al, 3
        ja crtc_cursor_shape
        inc ch
        dec cl

crtc_cursor_shape:                      ; CX as above
        mov dx, [BDA_CRTC]
        mov al, 0x0A
        mov ah, ch
        out dx, ax
        mov al, 0x0B
        mov ah, cl
        out dx, ax
        ret

; AH=02h, BH = page, DH, DL = row, column.
video_set_cursor:
        movzx bx, byte [bp+F_BH]
        and bx, 7
        add bx, bx
        mov [bx+BDA_CURSOR], dx
        jmp crtc_cursor

; AH=03h, BH = page.
video_get_cursor:
        movzx bx, byte [bp+F_BH]
        and bx, 7
        add bx, bx
        mov ax, [bx+BDA_CURSOR]
        mov [bp+F_DX], ax
        mov ax, [BDA_CURSHAPE]
        mov [bp+F_CX], ax
        mov word [bp+F_AX], 0
        ret

; AH=05h, AL = page to show.
video_set_page:
        and al, 7
        mov [BDA_PAGE], al
        movzx ax, al
        mul word [BDA_PAGESIZE]
        mov [BDA_PAGESTART], ax
        shr ax, 1                       ; the CRTC counts characters
        mov cx, ax
        mov dx, [BDA_CRTC]
        mov al, 0x0C
        mov ah, ch
        out dx, ax
        mov al, 0x0D
        mov ah, cl
        out dx, ax
        jmp crtc_cursor

; AH=0Bh, BH=0, BL = border colour.
video_border:
        cmp byte [bp+F_BH], 0
        jne .end
        mov bl, 0x11
        mov bh, [bp+F_BL]
        and bh, 0x1F
        call attr_write
.end:   ret

; AH=0Fh.
video_get_mode:
        mov al, [BDA_VMODE]
        mov ah, [BDA_VCONTROL]
        and ah, 0x80
        or al, ah
        mov ah, [BDA_COLS]
        mov [bp+F_AX], ax
        mov al, [BDA_PAGE]
        mov [bp+F_BH], al
        ret

; AH=10h: palette and DAC, one register at a time, and blinking.
video_palette:
        mov bx, [bp+F_BX]
        cmp al, 0x00                    ; BL = palette register, BH = value
        je attr_write
        cmp al, 0x01                    ; BH = border
        je .border
        cmp al, 0x03                    ; BL = 1: bit 7 blinks, 0: bright background
        je .blink
        cmp al, 0x10                    ; BX = DAC register, DH, CH, CL = red, green, blue
        je .dac
        cmp al, 0x15
        je .dac_read
        ret
.border:
        mov bl, 0x11
        jmp attr_write
.blink: and bl, 1
        shl bl, 3
        mov bh, bl
        or bh, 0x04
        mov bl, 0x10
        jmp attr_write
.dac:   mov ah, dh
        mov dx, 0x3C8
        mov al, bl
        out dx, al
        inc dx
        mov al, ah
        out dx, al
        mov al, ch
        out dx, al
        mov al, cl
        out dx, al
        ret
.dac_read:
        mov dx, 0x3C7
        mov al, bl
        out dx, al
        add dx, 2
        in al, dx
        mov [bp+F_DH], al
        in al, dx
        mov [bp+F_CH], al
        in al, dx
        mov [bp+F_CL], al
        ret

attr_write:                             ; attribute controller register BL = BH
        mov dx, [BDA_CRTC]
        add dx, 6
        in al, dx                       ; resets the flip-flop
        mov dx, 0x3C0
        mov al, bl
        and al, 0x1F
        out dx, al
        mov al, bh
        out dx, al
        mov al, 0x20
        out dx, al
        ret

; AH=11h: AL=00h, 10h load the caller's glyphs (ES:BP, CX of them from code DX on, BH rows each, BL = font), 04h, 14h
; the ROM's font of 16 rows; 30h says where fonts are. The number of rows on the screen stays.
video_font:
        cmp al, 0x30
        je .where
        and al, 0xEF
        mov bl, [bp+F_BL]
        cmp al, 0x04
        je vga_load_rom_font.block
        test al, al
        jnz .end
        mov bh, [bp+F_BH]
        mov cx, [bp+F_CX]
        mov dx, [bp+F_DX]
        mov si, [bp+F_BP]
        push ds
        mov ds, [bp+F_ES]
        call vga_load_font
        pop ds
        ret
.where:
        mov ax, [BDA_CHARHEIGHT]
        mov [bp+F_CX], ax
        mov al, [BDA_ROWS]
        mov [bp+F_DL], al
        mov bl, [bp+F_BH]               ; 0, 1: the vectors 1Fh, 43h; 6, 7: 16 rows; the others are not there
        xor ax, ax
        mov es, ax
        mov ax, no_font
        cmp bl, 6
        jb .rom
        mov ax, font
.rom:   mov dx, BIOS_SEG
        mov si, 0x1F*4
        cmp bl, 1
        jb .vector
        mov si, 0x43*4
        ja .give
.vector:
        mov ax, [es:si]
        mov dx, [es:si+2]
.give:  mov [bp+F_BP], ax
        mov [bp+F_ES], dx
.end:   ret

; AH=12h BL=10h: EGA and VGA information. Others are not there: AL is not set to 12h.
video_alternate:
        cmp byte [bp+F_BL], 0x10
        jne .end
        mov al, [BDA_VMODE]
        cmp al, 7
        sete al
        mov [bp+F_BH], al
        mov byte [bp+F_BL], 3           ; 256 KiB
        mov word [bp+F_CX], 0x0009      ; feature bits, switches
.end:   ret

; AH=1Ah: the display is a colour VGA.
video_combination:
        cmp al, 0
        jne .end
        mov byte [bp+F_AL], 0x1A
        mov bx, 0x0008
        cmp byte [BDA_VMODE], 7
        jne .colour
        mov bl, 7
.colour:
        mov [bp+F_BX], bx
.end:   ret
