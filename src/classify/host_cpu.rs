//! One instruction on the host's own processor, in 32-bit code at CPL 3: the unsafe part of [`super::host`],
//! for x86-64 Linux. A process that calls [`run`] gives up its fault signals, so it is a child of the
//! command.
//!
//! A 64-bit process may jump into a 32-bit code segment by a far transfer; Linux keeps one at selector 23h. A
//! stub below 4 GiB loads the registers, the instruction runs, and a far jump leads back. A fault arrives as
//! a signal on a stack of its own, whose handler resumes at the 64-bit end of the stub. FS is left alone:
//! thread-local storage is there.

use std::sync::atomic::{AtomicU32, Ordering};

/// Memory operands lie here; the same place as in the forms' encodings.
pub(super) const OPERAND: u32 = super::forms::OPERAND32;
/// The stub's page, the page of what it saves, and the stack's.
const CODE: u32 = 0x1000_0000;
const SAVED: u32 = CODE + 0x1000;
const STACK: u32 = CODE + 0x2000;
/// ESP at the start.
const TOP: u32 = STACK + 0x800;
const PAGE: usize = 0x1000;
const HOST_RSP: u32 = SAVED;
const OUT: u32 = SAVED + 8;
/// Selectors that Linux gives programs: 64-bit code, 32-bit code, flat data.
const CS64: u16 = 0x33;
const CS32: u16 = 0x23;
pub(super) const FLAT: u16 = 0x2b;
const SIGNALS: [i32; 5] = [libc::SIGFPE, libc::SIGSEGV, libc::SIGILL, libc::SIGTRAP, libc::SIGBUS];
const SIGNAL_STACK: usize = 0x2_0000;

/// The vector of the fault, plus 1; 0 while there is none.
static VECTOR: AtomicU32 = AtomicU32::new(0);
/// Where the stub goes on in 64-bit code; 0 while no instruction runs.
static RESUME: AtomicU32 = AtomicU32::new(0);

/// What an instruction did.
pub(super) struct Ran {
    /// The exception's vector, if there was one.
    pub(super) vector: Option<u32>,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub(super) regs: [u32; 8],
    /// EFLAGS.
    pub(super) flags: u32,
    /// The first bytes of the operand.
    pub(super) operand: [u8; 16],
    /// The doubleword below ESP's first value.
    pub(super) pushed: u32,
}

/// Maps `PAGE` bytes at exactly `addr`.
fn map(addr: u32) -> Result<(), String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: MAP_FIXED_NOREPLACE never takes memory that is in use.
    let got = unsafe { libc::mmap(addr as usize as *mut _, PAGE, prot, flags, -1, 0) };
    if got as usize == addr as usize {
        return Ok(());
    }
    Err(format!("the host gives no memory at {addr:#x}: {}", std::io::Error::last_os_error()))
}

extern "C" fn on_signal(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let resume = RESUME.load(Ordering::SeqCst);
    if resume == 0 {
        // Not the instruction's fault but a bug here.
        // SAFETY: restores the default action; the fault comes again and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the kernel passes a valid context to an SA_SIGINFO handler, ours until we return.
    let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
    VECTOR.store(regs[libc::REG_TRAPNO as usize] as u32 + 1, Ordering::SeqCst);
    regs[libc::REG_RIP as usize] = i64::from(resume);
    regs[libc::REG_EFL as usize] = 2;
    let kept = regs[libc::REG_CSGSFS as usize] as u64 & 0x0000_ffff_ffff_0000;
    regs[libc::REG_CSGSFS as usize] = (kept | u64::from(CS64) | u64::from(FLAT) << 48) as i64;
}

/// Prepares this process.
pub(super) fn prepare() -> Result<(), String> {
    for page in [CODE, SAVED, STACK, OPERAND] {
        map(page)?;
    }
    let stack = Box::leak(vec![0u8; SIGNAL_STACK].into_boxed_slice());
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIGNAL_STACK };
    // SAFETY: the stack is leaked, so it outlives every signal.
    if unsafe { libc::sigaltstack(&alternate, std::ptr::null_mut()) } != 0 {
        return Err(format!("the host refused a signal stack: {}", std::io::Error::last_os_error()));
    }
    for signal in SIGNALS {
        // SAFETY: an all-zero sigaction is valid; the handler has the SA_SIGINFO signature.
        let got = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if got != 0 {
            return Err(format!("the host refused a signal handler: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// The stub: where it starts, where its 64-bit end is, and its bytes.
fn stub(insn: &[u8], regs: &[u32; 8]) -> (u32, Vec<u8>) {
    let mut c: Vec<u8> = Vec::new();
    let abs = |c: &mut Vec<u8>, bytes: &[u8], at: u32| {
        c.extend_from_slice(bytes);
        c.extend_from_slice(&at.to_le_bytes());
    };
    let pointer = SAVED + 0x100;
    // 64-bit: save what the C ABI wants kept, and go to 32-bit code.
    c.extend([0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]); // push rbx, rbp, r12..r15
    abs(&mut c, &[0x48, 0x89, 0x24, 0x25], HOST_RSP); // mov [host_rsp], rsp
    abs(&mut c, &[0xff, 0x2c, 0x25], pointer); // jmp far [pointer]
    let resume = CODE + c.len() as u32;
    for (n, reg) in (0..8u32).zip([0x04u8, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c]) {
        abs(&mut c, &[0x89, reg, 0x25], OUT + 4 * n); // mov [out + 4n], r32
    }
    abs(&mut c, &[0x48, 0x8b, 0x24, 0x25], HOST_RSP); // mov rsp, [host_rsp]
    c.extend([0x9c, 0x58]); // pushfq; pop rax
    abs(&mut c, &[0x89, 0x04, 0x25], OUT + 32); // mov [flags], eax
    c.extend([0x6a, 0x02, 0x9d, 0xfc]); // push 2; popfq; cld
    c.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
    let start = CODE + c.len() as u32;
    // 32-bit: segments, flags, registers, the instruction, and back.
    abs(&mut c, &[0xb8], u32::from(FLAT)); // mov eax, FLAT
    c.extend([0x8e, 0xd8, 0x8e, 0xc0]); // mov ds, eax; mov es, eax
    abs(&mut c, &[0xbc], TOP); // mov esp, TOP
    c.extend([0x6a, 0x02, 0x9d]); // push 2; popfd
    for (n, &value) in regs.iter().enumerate() {
        abs(&mut c, &[0xb8 | n as u8], value); // mov r32, value
    }
    c.extend_from_slice(insn);
    abs(&mut c, &[0xea], resume); // jmp CS64:resume
    c.extend(CS64.to_le_bytes());
    (start, [&c[..], &resume.to_le_bytes()].concat())
}

/// Runs an instruction that does not transfer control, from registers as given (ESP is set here), with all of
/// operand and stack holding the selector [`FLAT`]. [`prepare`] must have succeeded.
pub(super) fn run(insn: &[u8], mut regs: [u32; 8]) -> Ran {
    regs[4] = TOP;
    let (start, mut code) = stub(insn, &regs);
    let tail = code.split_off(code.len() - 4);
    let resume = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let background: Vec<u8> = FLAT.to_le_bytes().repeat(PAGE / 2);
    let pointer = [&start.to_le_bytes()[..], &CS32.to_le_bytes()].concat();
    for (at, bytes) in
        [(OPERAND, &background), (STACK, &background), (CODE, &code), (SAVED + 0x100, &pointer)]
    {
        // SAFETY: `prepare` mapped these pages, nothing in Rust refers to them, and no piece is longer than
        // its page.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as usize as *mut u8, bytes.len()) };
    }
    VECTOR.store(0, Ordering::SeqCst);
    RESUME.store(resume, Ordering::SeqCst);
    // SAFETY: the stub at CODE keeps the C ABI: it saves and restores the callee-saved registers and the
    // stack pointer, and comes back by its far jump or by the signal handler. The instruction's operands lie
    // in pages of ours.
    unsafe {
        let enter: extern "C" fn() = std::mem::transmute(CODE as usize);
        enter();
    }
    RESUME.store(0, Ordering::SeqCst);
    let word = |at: u32| {
        // SAFETY: the callers below name places within the mapped pages, and the words are aligned.
        unsafe { (at as usize as *const u32).read_volatile() }
    };
    let vector = VECTOR.load(Ordering::SeqCst).checked_sub(1);
    let mut operand = [0; 16];
    for (n, chunk) in (0..4).zip(operand.chunks_mut(4)) {
        chunk.copy_from_slice(&word(OPERAND + 4 * n).to_le_bytes());
    }
    Ran {
        vector,
        regs: std::array::from_fn(|n| word(OUT + 4 * n as u32)),
        flags: word(OUT + 32),
        operand,
        pushed: word(TOP - 4),
    }
}
