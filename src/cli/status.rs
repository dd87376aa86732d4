//! The exit statuses, as the help tells them.

/// Printed below the options of `subring --help` and `subring run --help`.
pub(super) const HELP: &str = "\
At a terminal, stdin goes to the guest's serial port:
  Ctrl-A X leaves, Ctrl-A C shows registers, Ctrl-A A sends Ctrl-A, Ctrl-A H helps

Exit status:
  0-255  the guest's own: the byte it wrote to port 0xF4
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option
  0      also: the guest turned the machine off (ACPI)
  120    triple fault
  121    halted for ever: HLT with nothing left that could wake it
  122    the guest asked for a reset
  124    the budget (--budget, --time) is spent, or --stop-on ended the run
  130    left with Ctrl-A X, ended by gdb, or interrupted by a signal
A guest may choose one of these numbers itself; --json says which it was.";
