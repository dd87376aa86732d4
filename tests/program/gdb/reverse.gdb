# Back in time in a kernel with paging, interrupts and tasks.
monitor history
# There is nothing before the beginning.
reverse-stepi
stepi
reverse-stepi
print/x $eip
break page_fault_resolved
continue
continue
# Each register is as it was: 40 steps back, 40 forward, timer interrupts in between or not.
set $was = (int)$esp ^ $eax ^ $ebx ^ $ecx ^ $edx ^ $esi ^ $edi ^ (int)$ebp ^ (int)$eip
info registers eflags
print/x $eip
reverse-stepi 40
print $eip == page_fault_resolved
stepi 40
print/x $eip
info registers eflags
print ((int)$esp ^ $eax ^ $ebx ^ $ecx ^ $edx ^ $esi ^ $edi ^ (int)$ebp ^ (int)$eip) == $was
# Back to the breakpoint before, and no further than to the beginning.
reverse-continue
reverse-continue
delete
# From a later point: who wrote to a variable last?
tbreak task_exit
continue
set $ticks_then = *(unsigned *)&ticks
monitor history
watch *(unsigned *)&ticks
reverse-continue
x/i $eip
print *(unsigned *)&ticks == $ticks_then - 1
stepi
print *(unsigned *)&ticks == $ticks_then
reverse-stepi
reverse-continue
delete
# Reads too; and by function.
rwatch *(unsigned *)&next_pid
reverse-continue
x/i $eip
delete
break page_fault_resolved
reverse-continue
reverse-stepi
delete
monitor last-write 0x0 4
eval "monitor last-write %u", &ticks
# To an instruction count, there and back.
monitor goto 100000
maintenance flush register-cache
monitor history
monitor goto 1000000000
maintenance flush register-cache
monitor goto nowhere
monitor last-write nowhere
# On from the past: the same run, with nothing printed twice, to its end.
continue
