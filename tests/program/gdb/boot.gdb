# A boot sector in 16-bit real mode. Addresses are linear; $eip is the offset in CS.
# gdb is told that this is i8086 code.
print/x $cs
print/x $cs_base
x/i $cs_base + $eip
# The reset vector's jump, into a segment whose base is not 0.
stepi
stepi
x/i $cs_base + $eip
# A breakpoint where offset and address differ: the boot sector, then the handler of INT 10h.
break *0x7c00
continue
info registers cs eip esp cs_base eflags
x/8i $cs_base + $eip
display/i $cs_base + $eip
stepi
stepi
stepi
stepi
stepi
stepi
stepi
stepi
undisplay 1
# INT 10h goes to the BIOS, in segment F000: SIGTRAP, since EIP is not what gdb has a breakpoint at.
delete
break *0xf0000 + *(unsigned short *)0x40
continue
print/x $cs_base
x/2i $cs_base + $eip
stepi
delete
watch *(unsigned char *)0x450
continue
print/x $cs_base
x/i $cs_base + $eip
delete
monitor info idt
monitor info mem
set architecture i386
x/2i 0x7c00
continue
