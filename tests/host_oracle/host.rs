//! The host's processor as a [`Subject`]: the only unsafe file of the oracle. `main` makes one per process.
//!
//! A 64-bit process may jump into a 32-bit code segment by a far transfer; Linux keeps one at selector 23h, and
//! modify_ldt(2) adds 16-bit ones. Stubs below 4 GiB load the case's registers, jump to the instruction, and catch it
//! behind itself (a *landing*: code that stores its own address and leaves for 64-bit mode). Every stub reaches its
//! control block through GS, which user-mode Linux leaves alone on x86-64, so DS, ES and SS may hold anything.
//! A fault arrives as a signal on an alternate stack; the handler copies the state out of the signal's context and
//! resumes at the 64-bit end of the stubs.

use super::case::*;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};

/// The control block's page; the stubs follow it.
const CONTROL: u32 = 0x1000_0000;
const STUBS: u32 = CONTROL + 0x1000;
/// Selectors that Linux gives 64-bit user code.
const CS64: u16 = 0x33;
/// Room for signal frames with the whole extended state of the largest processors.
const SIGNAL_STACK: usize = 0x2_0000;
/// A landing in either mode fits.
pub const LANDING: u32 = 24;

/// What the stubs load and store.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    host_rsp: u64,
    in_flags: u32,
    in_regs: [u32; 8],
    in_esp: u32,
    in_ss: u32,
    in_eip: u32,
    in_cs: u32,
    in_ds: u32,
    in_es: u32,
    entry: u32,
    entry_cs: u32,
    exit_esp: u32,
    exit_ss: u32,
    out_regs: [u32; 8],
    out_eip: u32,
    out_segs: [u32; 3],
    out_flags: u32,
    out_flags_end: u32,
    faulted: u32,
    vector: u32,
    error: u32,
    cr2: u32,
    /// Whether the x87's state is loaded and stored.
    with_fpu: u32,
    in_fpu: [u8; 108],
    out_fpu: [u8; 108],
}

macro_rules! at {
    ($($field:tt)+) => { CONTROL + offset_of!(Control, $($field)+) as u32 };
}

/// True while the processor is on its way through the stubs: faults are the case's, not ours.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Where the stubs lie.
#[derive(Clone, Copy)]
struct Stubs {
    enter: u32,
    entry32: u32,
    entry16: u32,
    exit: u32,
    resume: u32,
}

/// The host's processor. It owns fixed addresses and the process's signal handlers: one per process.
pub struct HostCpu {
    stubs: Stubs,
    background: Vec<u8>,
}

/// Machine code growing at a known address.
struct Emitter {
    base: u32,
    code: Vec<u8>,
}

impl Emitter {
    fn here(&self) -> u32 {
        self.base + self.code.len() as u32
    }
    fn op(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend_from_slice(bytes);
        self
    }
    fn abs(&mut self, bytes: &[u8], addr: u32) -> &mut Self {
        self.op(bytes).op(&addr.to_le_bytes())
    }
    fn rel(&mut self, bytes: &[u8], target: u32) -> &mut Self {
        self.op(bytes);
        let next = self.here() + 4;
        self.op(&target.wrapping_sub(next).to_le_bytes())
    }
    fn far(&mut self, bytes: &[u8], selector: u16, target: u32) -> &mut Self {
        self.abs(bytes, target).op(&selector.to_le_bytes())
    }
}

/// Emits all stubs at [`STUBS`].
fn emit_stubs() -> (Stubs, Vec<u8>) {
    let mut e = Emitter { base: STUBS, code: Vec::new() };
    // 64-bit: save what the C ABI wants kept, leave for the entry stub.
    let enter = e.here();
    e.op(&[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]); // push rbx, rbp, r12..r15
    e.abs(&[0x48, 0x89, 0x24, 0x25], at!(host_rsp)); // mov [host_rsp], rsp
    e.abs(&[0xff, 0x2c, 0x25], at!(entry)); // jmp far [entry]
    // 64-bit: back again.
    let resume = e.here();
    e.abs(&[0x48, 0x8b, 0x24, 0x25], at!(host_rsp)); // mov rsp, [host_rsp]
    e.abs(&[0x83, 0x3c, 0x25], at!(with_fpu)).op(&[0, 0x74, 7]); // cmp dword [with_fpu], 0; je +7
    e.abs(&[0xdd, 0x34, 0x25], at!(out_fpu)); // fnsave [out_fpu]
    e.op(&[0x6a, 0x02, 0x9d]); // push 2; popfq
    e.op(&[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
    // 32-bit: load the state. MOV, LSS and JMP leave the flags alone.
    let entry = |e: &mut Emitter, mode: Mode| {
        let start = e.here();
        e.abs(&[0x65, 0x83, 0x3d], at!(with_fpu)).op(&[0, 0x74, 7]); // cmp dword gs:[with_fpu], 0; je +7
        e.abs(&[0x65, 0xdd, 0x25], at!(in_fpu)); // frstor gs:[in_fpu]
        e.abs(&[0xbc], at!(in_flags)).op(&[0x9d]); // mov esp, in_flags; popfd
        e.abs(&[0x65, 0x8e, 0x1d], at!(in_ds)); // mov ds, gs:[in_ds]
        e.abs(&[0x65, 0x8e, 0x05], at!(in_es)); // mov es, gs:[in_es]
        for reg in [0u32, 1, 2, 3, 5, 6, 7] {
            e.abs(&[0x65, 0x8b, 0x05 | (reg as u8) << 3], at!(in_regs) + 4 * reg);
        }
        if mode == Mode::Code16 {
            e.abs(&[0x65, 0x0f, 0xb2, 0x25], at!(in_esp)); // lss esp, gs:[in_esp]
            e.abs(&[0x65, 0xff, 0x2d], at!(in_eip)); // jmp far gs:[in_eip]
        } else {
            e.abs(&[0x65, 0x8b, 0x25], at!(in_esp)); // mov esp, gs:[in_esp]
            e.abs(&[0x65, 0xff, 0x25], at!(in_eip)); // jmp gs:[in_eip]
        }
        start
    };
    let entry32 = entry(&mut e, Mode::Code32);
    let entry16 = entry(&mut e, Mode::Code16);
    // 32-bit: store the state, again without touching the flags before they are pushed.
    let exit = e.here();
    for reg in 0..8u32 {
        e.abs(&[0x65, 0x89, 0x05 | (reg as u8) << 3], at!(out_regs) + 4 * reg);
    }
    for (i, sreg) in [3u8, 0, 2].into_iter().enumerate() {
        e.abs(&[0x65, 0x8c, 0x05 | sreg << 3], at!(out_segs) + 4 * i as u32); // mov gs:[..], ds / es / ss
    }
    e.abs(&[0x65, 0x0f, 0xb2, 0x25], at!(exit_esp)).op(&[0x9c]); // lss esp, gs:[exit_esp]; pushfd
    e.far(&[0xea], CS64, resume);
    (Stubs { enter, entry32, entry16, exit, resume }, e.code)
}

/// Where the 64-bit end of the stubs lies, for the signal handler.
static RESUME: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Maps `len` bytes at exactly `addr`.
fn map_fixed(addr: u32, len: u32) -> Result<(), String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: MAP_FIXED_NOREPLACE never takes memory that is in use.
    let got = unsafe { libc::mmap(addr as usize as *mut _, len as usize, prot, flags, -1, 0) };
    if got as usize == addr as usize {
        return Ok(());
    }
    Err(format!("no memory at {addr:#x}: {}", std::io::Error::last_os_error()))
}

/// modify_ldt(2)'s description of a segment.
#[repr(C)]
struct UserDesc {
    entry: u32,
    base: u32,
    limit: u32,
    bits: u32,
}

/// Installs a 16-bit segment with base 0 and limit FFFFh under `selector`.
fn install_segment(selector: u16, code: bool) -> Result<(), String> {
    // Bit 0: 32-bit; bits 1-2: contents (0 data, 2 code); bit 6: usable by programs.
    let desc =
        UserDesc { entry: u32::from(selector >> 3), base: 0, limit: 0xffff, bits: if code { 4 } else { 0 } };
    // SAFETY: function 11h reads `desc` and writes only this process's LDT.
    let got = unsafe { libc::syscall(libc::SYS_modify_ldt, 0x11, &desc, size_of::<UserDesc>()) };
    // The call returns an int: a failure may arrive as a positive number in the 64-bit register.
    if got as i32 == 0 { Ok(()) } else { Err(format!("modify_ldt refused: {}", got as i32)) }
}

/// The signals that faults arrive as.
const SIGNALS: [i32; 5] = [libc::SIGFPE, libc::SIGSEGV, libc::SIGILL, libc::SIGTRAP, libc::SIGBUS];

/// Takes the faulting state out of the signal's context and resumes behind the stubs.
extern "C" fn on_signal(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !RUNNING.load(Ordering::Relaxed) {
        // Not a case's fault but a bug here: let it end the process in the ordinary way.
        // SAFETY: restores the default action; the faulting instruction runs again and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the kernel passes a valid context to an SA_SIGINFO handler, ours until we return.
    let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
    // SAFETY: the control block was mapped before RUNNING was first set, and only this thread uses it.
    let control = unsafe { &mut *(CONTROL as usize as *mut Control) };
    let order = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
    ];
    for (out, reg) in control.out_regs.iter_mut().zip(order) {
        *out = regs[reg as usize] as u32;
    }
    let segments = regs[libc::REG_CSGSFS as usize] as u64;
    let (ds, es): (u32, u32);
    // SAFETY: reads two selectors, which 64-bit code does not use and the kernel leaves as they were.
    unsafe {
        std::arch::asm!("mov {0:e}, ds", "mov {1:e}, es", out(reg) ds, out(reg) es, options(nomem, nostack, preserves_flags));
    }
    control.out_segs = [ds, es, (segments >> 48) as u32];
    control.out_eip = regs[libc::REG_RIP as usize] as u32;
    control.out_flags = regs[libc::REG_EFL as usize] as u32;
    control.faulted = 1;
    control.vector = regs[libc::REG_TRAPNO as usize] as u32;
    control.error = regs[libc::REG_ERR as usize] as u32;
    control.cr2 = regs[libc::REG_CR2 as usize] as u32;
    regs[libc::REG_RIP as usize] = i64::from(RESUME.load(Ordering::Relaxed));
    regs[libc::REG_EFL as usize] = 2;
    let kept = segments & 0x0000_ffff_ffff_0000;
    regs[libc::REG_CSGSFS as usize] = (kept | u64::from(CS64) | u64::from(FLAT) << 48) as i64;
}

/// Sends the faults' signals to [`on_signal`] on a stack of its own.
fn install_handlers() -> Result<(), String> {
    let stack = Box::leak(vec![0u8; SIGNAL_STACK].into_boxed_slice());
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIGNAL_STACK };
    // SAFETY: the stack is leaked, so it outlives every signal.
    if unsafe { libc::sigaltstack(&alternate, std::ptr::null_mut()) } != 0 {
        return Err(format!("sigaltstack: {}", std::io::Error::last_os_error()));
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
            return Err(format!("sigaction: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

impl HostCpu {
    /// Prepares this process. The second value says why 16-bit cases cannot run, if they cannot.
    pub fn new() -> Result<(Self, Option<String>), String> {
        map_fixed(CONTROL, 0x2000)?;
        for range in [CODE, DATA, READ_ONLY, STACK, EDGE] {
            map_fixed(range.start, range.end - range.start)?;
        }
        let background: Vec<u8> = (0..TOP).map(background).collect();
        for range in [CODE, DATA, READ_ONLY, STACK, EDGE] {
            let bytes = &background[range.start as usize..range.end as usize];
            // SAFETY: the range was just mapped, and nobody else knows it.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), range.start as usize as *mut u8, bytes.len())
            };
        }
        // SAFETY: READ_ONLY is ours.
        unsafe { libc::mprotect(READ_ONLY.start as usize as *mut _, 0x1000, libc::PROT_READ) };
        let (stubs, code) = emit_stubs();
        RESUME.store(stubs.resume, Ordering::Relaxed);
        // SAFETY: STUBS was just mapped, a page long, and the stubs are shorter. GS is free on x86-64 Linux: thread-local storage uses FS.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), STUBS as usize as *mut u8, code.len());
            std::arch::asm!("mov gs, {0:e}", in(reg) u32::from(FLAT), options(nomem, nostack, preserves_flags));
        }
        install_handlers()?;
        let sixteen = install_segment(CS16, true).and_then(|()| install_segment(DATA16, false));
        Ok((HostCpu { stubs, background }, sixteen.err()))
    }

    /// Writes bytes into the low region.
    fn poke(&self, addr: u32, bytes: &[u8]) {
        let writable = [CODE, DATA, STACK, EDGE];
        assert!(
            writable.iter().any(|r| r.contains(&addr) && bytes.len() as u32 <= r.end - addr),
            "poke at {addr:#x}"
        );
        // SAFETY: the assertion keeps the copy inside memory that `new` mapped writable and that nothing in Rust refers to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as usize as *mut u8, bytes.len()) };
    }

    /// Code that stores its own address as the EIP reached, and leaves.
    fn place_landing(&self, mode: Mode, addr: u32) {
        let mut e = Emitter { base: addr, code: Vec::with_capacity(LANDING as usize) };
        if mode == Mode::Code32 {
            e.abs(&[0x65, 0xc7, 0x05], at!(out_eip)).op(&addr.to_le_bytes()); // mov dword gs:[out_eip], addr
            e.rel(&[0xe9], self.stubs.exit);
        } else {
            e.abs(&[0x65, 0x66, 0x67, 0xc7, 0x05], at!(out_eip)).op(&addr.to_le_bytes());
            e.far(&[0x66, 0xea], CS32, self.stubs.exit);
        }
        self.poke(addr, &e.code);
    }

    /// The control block for `case`.
    fn control_for(&self, case: &Case) -> Control {
        let wide = case.mode == Mode::Code32;
        let data = u32::from(if wide { FLAT } else { DATA16 });
        Control {
            host_rsp: 0,
            in_flags: case.eflags,
            in_regs: case.regs,
            in_esp: case.regs[4],
            in_ss: data,
            in_eip: case.eip,
            in_cs: u32::from(if wide { CS32 } else { CS16 }),
            in_ds: data,
            in_es: data,
            entry: if wide { self.stubs.entry32 } else { self.stubs.entry16 },
            entry_cs: u32::from(CS32),
            exit_esp: at!(out_flags_end),
            exit_ss: u32::from(FLAT),
            out_regs: [0; 8],
            out_eip: 0,
            out_segs: [0; 3],
            out_flags: 0,
            out_flags_end: 0,
            faulted: 0,
            vector: 0,
            error: 0,
            cr2: 0,
            with_fpu: u32::from(!case.fpu.is_empty()),
            in_fpu: std::array::from_fn(|n| case.fpu.get(n).copied().unwrap_or(0)),
            out_fpu: [0; 108],
        }
    }

    /// Goes through the stubs once.
    fn execute(&self, control: Control) -> Control {
        let block = CONTROL as usize as *mut Control;
        RUNNING.store(true, Ordering::SeqCst);
        // SAFETY: `block` is mapped and ours. The stub keeps the C ABI: it saves and restores the callee-saved
        // registers, and comes back by `resume` after the instruction or by the signal handler after a fault.
        // The instruction itself can reach only the low region: cases never point it anywhere else.
        let after = unsafe {
            block.write_volatile(control);
            let enter: extern "C" fn() = std::mem::transmute(self.stubs.enter as usize);
            enter();
            block.read_volatile()
        };
        RUNNING.store(false, Ordering::SeqCst);
        after
    }

    /// Reads the windows back and restores the background in their place.
    fn collect_memory(&self, case: &Case, out: &mut Outcome) {
        out.memory.resize(case.memory.len(), 0);
        for w in &case.windows {
            let to = &mut out.memory[w.at as usize..(w.at + w.len) as usize];
            // SAFETY: `poke` checked this window when the case was set up.
            unsafe { std::ptr::copy_nonoverlapping(w.addr as usize as *const u8, to.as_mut_ptr(), to.len()) };
        }
        for w in &case.windows {
            self.poke(w.addr, &self.background[w.addr as usize..(w.addr + w.len) as usize]);
        }
    }

    /// The first byte outside the code that no longer holds the background: a case wrote beside its windows. Restores
    /// the background.
    pub fn stray_write(&self) -> Option<u32> {
        let stray = [DATA, READ_ONLY, STACK, EDGE].into_iter().flatten().find(|&addr| {
            // SAFETY: these ranges are mapped and readable.
            let byte = unsafe { (addr as usize as *const u8).read_volatile() };
            byte != self.background[addr as usize]
        });
        if stray.is_some() {
            for range in WRITABLE {
                self.poke(range.start, &self.background[range.start as usize..range.end as usize]);
            }
        }
        stray
    }
}

impl Subject for HostCpu {
    fn run(&mut self, case: &Case, out: &mut Outcome) {
        for w in &case.windows {
            self.poke(w.addr, &case.memory[w.at as usize..(w.at + w.len) as usize]);
        }
        self.place_landing(case.mode, case.eip + case.code.len() as u32);
        for &addr in &case.landings {
            self.place_landing(case.mode, addr);
        }
        self.poke(case.eip, &case.code);
        let after = self.execute(self.control_for(case));
        out.regs = after.out_regs;
        out.eip = after.out_eip;
        out.eflags = after.out_flags;
        out.segs = after.out_segs.map(|s| s as u16);
        let paging = after.vector == 14;
        out.fault = (after.faulted != 0).then_some(Fault {
            vector: after.vector as u8,
            error: after.error,
            cr2: if paging { after.cr2 } else { 0 },
        });
        out.fpu.clear();
        out.fpu.extend_from_slice(if case.fpu.is_empty() { &[] } else { &after.out_fpu });
        self.collect_memory(case, out);
    }
}
