# A boot sector in 16-bit real mode. Addresses are linear; $eip is the offset in CS.
set architecture i8086
print/x $cs
print/x $cs_base
x/i $cs_base + $eip
# The reset vector's jump, into a segment whose base is not 0.
stepi
stepi
x/i $cs_base + $eip
# A breakpoint where offset and address differ: the teletype output of the BIOS is not there yet, the boot sector is.
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
# INT 10h goes to the BIOS, in segment F000.
delete
watch *(unsigned char *)0x450
continue
print/x $cs_base
x/i $cs_base + $eip
delete
monitor info idt
monitor info mem
continue
