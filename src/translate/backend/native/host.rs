//! Running generated code on the host's processor: the room that it lives in, the way in and out, and the signal by which a
//! page that is not in the window is noticed.
//!
//! Generated code keeps the guest's registers in the host's of the same name, ESP in R12D, the arithmetic flags in RFLAGS. R13
//! points to a [`Context`], R14 to the window, R15 counts ticks that are left; R8 is scratch. RSP is the host's, so signals
//! and the way out find a stack. Called by the backend.

use crate::error::{Error, Result};
use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::io::Error as HostError;
use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// Bytes of generated code, at most.
const ROOM: usize = 16 << 20;

/// [`Context::exit`] after a fault.
pub(super) const FAULT: u32 = u32::MAX;

/// What generated code shares with the backend. The assembly below and the emitter know its layout.
#[repr(C)]
#[derive(Default)]
pub(super) struct Context {
    /// The guest's general registers, by number.
    pub(super) regs: [u32; 8],
    /// The arithmetic flags: OF in bit 0, SF ZF AF PF CF in bits 8 to 15 as LAHF has them.
    pub(super) flags: u32,
    /// Which way code was left, or [`FAULT`].
    pub(super) exit: u32,
    /// Ticks left, less a margin.
    pub(super) left: i64,
    /// Where the window is.
    pub(super) window: u64,
    /// Where to start.
    entry: u64,
    /// Where code goes when it leaves.
    leave: u64,
    /// The instruction that faulted, the address that it accessed, and whether that was to write.
    pub(super) fault_ip: u64,
    pub(super) fault_at: u64,
    pub(super) fault_write: bool,
    /// The bounds of generated code.
    code: (u64, u64),
}

/// Where [`Context::leave`] is, for the emitter.
pub(super) const LEAVE: usize = offset_of!(Context, leave);

thread_local! {
    /// The context of the generated code that runs in this thread, for the signal handler.
    static RUNNING: Cell<*mut Context> = const { Cell::new(null_mut()) };
    /// What this thread's GS base was last set to.
    static GS: Cell<u64> = const { Cell::new(0) };
}

/// Room for generated code: written through one mapping, run through another.
pub(super) struct Code {
    written: *mut libc::c_void,
    run: *mut libc::c_void,
    used: usize,
}

fn refused(action: &'static str) -> Error {
    Error::Host { action, source: HostError::last_os_error() }
}

impl Code {
    /// Empty room; and faults in generated code are noticed from now on.
    ///
    /// # Errors
    /// [`Error::Host`] when the host gives no memory that can be run, or no signal handler.
    pub(super) fn new() -> Result<Self> {
        catch_faults()?;
        let object = rustix::fs::memfd_create("subring-code", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| Error::Host { action: "make room for code", source: e.into() })?;
        rustix::fs::ftruncate(&object, ROOM as u64)
            .map_err(|e| Error::Host { action: "make room for code", source: e.into() })?;
        let map = |protection| {
            use std::os::fd::AsRawFd;
            // SAFETY: a new mapping of an object that nobody else has; nothing that exists is touched.
            let at =
                unsafe { libc::mmap(null_mut(), ROOM, protection, libc::MAP_SHARED, object.as_raw_fd(), 0) };
            if at == libc::MAP_FAILED { Err(refused("map room for code")) } else { Ok(at) }
        };
        let written = map(libc::PROT_READ | libc::PROT_WRITE)?;
        let run = match map(libc::PROT_READ | libc::PROT_EXEC) {
            Ok(run) => run,
            Err(e) => {
                // SAFETY: mapped above, and nobody knows of it yet.
                unsafe { libc::munmap(written, ROOM) };
                return Err(e);
            }
        };
        Ok(Self { written, run, used: 0 })
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The address at which the next code will run.
    pub(super) fn next(&self) -> u64 {
        self.run as u64 + self.used as u64
    }

    /// Adds `code`, made for [`Code::next`]; false if there is no room.
    pub(super) fn append(&mut self, code: &[u8]) -> bool {
        if code.len() > ROOM - self.used {
            return false;
        }
        self.write(self.used, code);
        self.used += code.len();
        true
    }

    /// Makes the branch whose 32-bit displacement is at the address `site` lead to the address `to`.
    pub(super) fn patch(&mut self, site: u64, to: u64) {
        let at = (site - self.run as u64) as usize;
        assert!(at + 4 <= self.used, "a branch of generated code");
        self.write(at, &(to.wrapping_sub(site + 4) as i32).to_le_bytes());
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= ROOM);
        // SAFETY: within the mapping, to which there are no references; and no generated code runs now.
        unsafe {
            let to = self.written.cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Forgets all code.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Runs the code at the address `entry`, until it leaves or faults; with `gs`, GS is the window's base.
    pub(super) fn run(&self, context: &mut Context, entry: u64, gs: bool) {
        let start = self.run as u64;
        assert!((start..start + self.used as u64).contains(&entry), "generated code");
        context.entry = entry;
        context.leave = leave as *const () as u64;
        context.code = (start, start + self.used as u64);
        if gs {
            set_gs(context.window);
        }
        RUNNING.set(context);
        // SAFETY: the emitter has made all code that is here. It keeps to the registers named above, touches memory in the
        // window and the context only, and ends in `leave`; a fault ends in `escape`.
        unsafe { enter(context) };
        RUNNING.set(null_mut());
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        for mapping in [self.written, self.run] {
            // SAFETY: mapped by `new`, ours alone, and no code runs there any more.
            unsafe { libc::munmap(mapping, ROOM) };
        }
    }
}

/// The way in: saves what the host's calling convention wants saved, loads the guest's registers and flags.
// SAFETY: called by `Code::run` only, with a context that outlives the call.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(context: *mut Context) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov r13, rdi",
        "mov r14, [r13 + {window}]",
        "mov r15, [r13 + {left}]",
        // OF from bit 0: 127 + 1 overflows. The rest from AH.
        "mov eax, [r13 + {flags}]", "add al, 127", "sahf",
        "mov eax, [r13]", "mov ecx, [r13 + 4]", "mov edx, [r13 + 8]", "mov ebx, [r13 + 12]",
        "mov r12d, [r13 + 16]", "mov ebp, [r13 + 20]", "mov esi, [r13 + 24]", "mov edi, [r13 + 28]",
        "jmp qword ptr [r13 + {entry}]",
        window = const offset_of!(Context, window),
        left = const offset_of!(Context, left),
        flags = const offset_of!(Context, flags),
        entry = const offset_of!(Context, entry),
    )
}

/// The way out, by a jump, with the exit's number in R8D.
// SAFETY: jumped to by generated code only, whose registers are as `enter` has left them.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "mov [r13 + {exit}], r8d",
        "mov [r13], eax",
        "lahf", "seto al",
        "mov [r13 + {flags}], eax",
        "mov [r13 + 4], ecx", "mov [r13 + 8], edx", "mov [r13 + 12], ebx", "mov [r13 + 16], r12d",
        "mov [r13 + 20], ebp", "mov [r13 + 24], esi", "mov [r13 + 28], edi",
        "mov [r13 + {left}], r15",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        exit = const offset_of!(Context, exit),
        flags = const offset_of!(Context, flags),
        left = const offset_of!(Context, left),
    )
}

/// Where the signal handler sends code that faulted: out.
// SAFETY: as `leave`.
#[unsafe(naked)]
unsafe extern "sysv64" fn escape() {
    naked_asm!("mov r8d, {fault}", "jmp {leave}", fault = const FAULT as i32, leave = sym leave)
}

/// Sets this thread's GS base, which nothing else uses on x86-64 Linux.
fn set_gs(base: u64) {
    if GS.get() == base {
        return;
    }
    if writes_gs_base() {
        // SAFETY: the kernel lets user code run the instruction; nobody reads through GS but generated code.
        unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        const ARCH_SET_GS: libc::c_int = 0x1001;
        // SAFETY: changes the GS base only; nobody reads through GS but generated code.
        let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
        assert_eq!(result, 0, "arch_prctl(ARCH_SET_GS) takes a user address");
    }
    GS.set(base);
}

/// Whether user code may run WRGSBASE: what the kernel says in HWCAP2.
fn writes_gs_base() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        const FSGSBASE: libc::c_ulong = 2;
        // SAFETY: reads a word of the auxiliary vector.
        unsafe { libc::getauxval(libc::AT_HWCAP2) & FSGSBASE != 0 }
    })
}

/// The handler of SIGSEGV that there was before; `None` if the host refused ours.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Installs the signal handler, once.
fn catch_faults() -> Result<()> {
    let before = BEFORE.get_or_init(|| {
        // SAFETY: all-zero is a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for, and runs on the
        // alternate stack that each of Rust's threads has.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            (libc::sigaction(libc::SIGSEGV, &action, &mut before) == 0).then_some(before)
        }
    });
    if before.is_some() { Ok(()) } else { Err(refused("handle page faults")) }
}

/// A fault in generated code: noted, and code goes out by `escape`. Any other is for the handler that there was before.
// SAFETY: the kernel calls it with a valid `siginfo_t` and `ucontext_t`.
unsafe extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, ucontext: *mut libc::c_void) {
    const WRITE: i64 = 2;
    // SAFETY: both are the kernel's, for this call; `RUNNING` is null or points to the context that `Code::run` of this very
    // thread holds, and generated code that was interrupted does not use it meanwhile.
    unsafe {
        let registers = &mut (*ucontext.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let ip = registers[libc::REG_RIP as usize] as u64;
        if let Some(context) = RUNNING.get().as_mut()
            && (context.code.0..context.code.1).contains(&ip)
        {
            context.fault_ip = ip;
            context.fault_at = (*info).si_addr() as u64;
            context.fault_write = registers[libc::REG_ERR as usize] & WRITE != 0;
            registers[libc::REG_RIP as usize] = escape as *const () as i64;
        } else if let Some(Some(before)) = BEFORE.get() {
            // It happens again, and goes there.
            libc::sigaction(libc::SIGSEGV, before, null_mut());
        }
    }
}
