# Back in time in 16-bit code, under firmware. Where CS has a base, gdb hears SIGTRAP.
break *0x7c00
continue
stepi
stepi
stepi
info registers cs eip esp eax
reverse-stepi
reverse-stepi
reverse-stepi
info registers cs eip esp eax
reverse-stepi
x/i $cs_base + $eip
print/x $cs_base
reverse-continue
delete
# The last write to the cursor's column, by the BIOS.
break *0x7c00
continue
delete
break *0xf0000 + *(unsigned short *)0x40
continue
delete
watch *(unsigned char *)0x450
continue
reverse-continue
print/x $cs_base
x/i $cs_base + $eip
reverse-continue
x/i $cs_base + $eip
monitor last-write 0x450 1
delete
# The boot sector itself: who read it from the disk?
watch *(unsigned short *)0x7c00
reverse-continue
x/i $cs_base + $eip
delete
continue
