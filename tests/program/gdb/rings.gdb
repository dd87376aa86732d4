# A kernel in 32-bit protected mode with paging, by its symbols.
break page_fault_resolved
hbreak syscall
info breakpoints
continue
info registers
backtrace 1
x/2i $eip
delete 1
continue
stepi
stepi
nexti
# The system call's number is in the frame; the user's program is what the page tables say.
x/4i 0x400004d0
delete 2
watch *(unsigned *)&ticks
continue
print *(unsigned *)&ticks
continue
print *(unsigned *)&ticks
delete
rwatch *(unsigned *)&current
continue
delete
awatch *(unsigned *)&next_pid
continue
delete
info registers float
monitor info gdt
monitor info idt
monitor info mem
monitor reset
monitor help
monitor nonsense
# What is not there.
x/1xw 0xbad0000
tbreak task_exit
continue
print $_exitcode
continue
