# A kernel that a monitor by ring compression runs faithfully: the session is the same whoever runs it.
break page_fault_resolved
hbreak syscall
continue
info registers
backtrace 1
x/2i $eip
delete 1
continue
stepi
stepi
nexti
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
monitor info gdt
monitor info idt
monitor info mem
stepi 500
info registers
tbreak task_exit
continue
continue
