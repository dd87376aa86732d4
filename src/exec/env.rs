//! `Env`: the only seam between semantics and the world.

use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::vmx::refusal::{EntrySite, Refusal};
use crate::cpu::{Cpu, Fault, Word};
use crate::decode::Insn;
use crate::mmu::two_dimensional::Refused;

/// A semantic function: executes one decoded instruction. `cpu.eip` already names the next instruction. On a
/// fault nothing of the instruction has been committed (but a REP's whole iterations, and the first pushes of
/// PUSHA and ENTER), and the caller puts EIP back.
pub type Handler<E> = fn(&mut Cpu, &mut E, &Insn) -> Result<(), Fault>;

/// What instructions reach the world through: memory by linear address, ports, and the translation caches.
///
/// `user` says whether paging treats the access as a user-mode one: `cpu.user` for an instruction's own
/// operands, false for the processor's implicit accesses to descriptor tables and task-state segments.
pub trait Env {
    /// Fast path only: `Err` means not taken, no side effects.
    const TRIES: bool = false;

    /// Reads `W` at `at`.
    ///
    /// # Errors
    /// #PF, or #AC where alignment is checked.
    fn load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault>;

    /// Reads `W` at `at` where a store to the same place follows: the fault, if any, is that of the write,
    /// and after success the store cannot fault.
    ///
    /// # Errors
    /// As [`Env::store`].
    fn load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault>;

    /// Writes `value` at `at`. If it faults, no byte has been written.
    ///
    /// # Errors
    /// #PF, or #AC where alignment is checked.
    fn store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault>;

    /// [`Env::load`], if there is a quick way.
    #[inline(always)]
    fn quick_load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Option<W> {
        let _ = (cpu, at, user);
        None
    }

    /// [`Env::load_for_update`], if there is a quick way; then there is one for [`Env::store`], too.
    #[inline(always)]
    fn quick_load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Option<W> {
        let _ = (cpu, at, user);
        None
    }

    /// [`Env::store`], if there is a quick way; returns whether there was.
    #[inline(always)]
    fn quick_store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> bool {
        let _ = (cpu, at, value, user);
        false
    }

    /// Checks that `len` bytes at `at` (at most a page) can be read, or written, with no effect but on
    /// accessed and dirty bits.
    ///
    /// # Errors
    /// #PF as the access would raise it.
    fn probe(&mut self, cpu: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault>;

    /// Whether an instruction that faults may be run again as if it had not begun: when the fault is the
    /// monitor's and not the guest's. Then one with several writes has to find its faults before the first
    /// write, which may overwrite the instruction or what it reads.
    fn restarts(&self) -> bool {
        false
    }

    /// Reads a port.
    fn port_in(&mut self, cpu: &Cpu, port: u16, width: Width) -> u32;

    /// Writes a port.
    fn port_out(&mut self, cpu: &Cpu, port: u16, width: Width, value: u32);

    /// Drops cached translations; global ones only if `globals`.
    fn flush_tlb(&mut self, globals: bool);

    /// Drops the cached translations of the page of `at`.
    fn invalidate_page(&mut self, at: Linear);

    /// Reads the page-directory-pointer table at `cr3`.
    ///
    /// # Errors
    /// #GP(0) if a present entry has reserved bits set.
    fn load_pointers(&mut self, cpu: &Cpu, cr3: u32) -> Result<[u64; 4], Fault> {
        let _ = (cpu, cr3);
        Err(Fault::GP0)
    }

    /// What extended page tables have refused, if an access ended with [`Fault::VM_EXIT`] for that.
    fn take_refused(&mut self) -> Option<Refused> {
        None
    }

    /// Does what MOVS in steps of `step` bytes, upwards, does with `bytes` bytes, if all of it lies in one
    /// page at either end and neither needs a look; returns whether it did. Never needed, only faster.
    fn move_run(&mut self, cpu: &Cpu, from: Linear, to: Linear, bytes: u32, step: u32) -> bool {
        let _ = (cpu, from, to, bytes, step);
        false
    }

    /// As [`Env::move_run`], for STOS of `value`.
    fn fill_run<W: Word>(&mut self, cpu: &Cpu, to: Linear, bytes: u32, value: W) -> bool {
        let _ = (cpu, to, bytes, value);
        false
    }

    /// Reads the doubleword at the physical address `at`, for VMX: control structures, bitmaps, MSR areas.
    fn read_physical(&mut self, cpu: &Cpu, at: u32) -> u32 {
        let _ = (cpu, at);
        !0
    }

    /// Writes the doubleword at the physical address `at`, for VMX.
    fn write_physical(&mut self, cpu: &Cpu, at: u32, value: u32) {
        let _ = (cpu, at, value);
    }

    /// A VM entry or a VM exit takes place: cached translations of the other side are dropped (SDM vol. 3,
    /// 28.3.3.1). `cpu` has the controls of the guest that is entered or left.
    fn vmx_transition(&mut self, cpu: &Cpu) {
        let _ = cpu;
        self.flush_tlb(true);
    }

    /// Whether A20M# is asserted: bit 20 of every physical address is low.
    fn a20m(&self) -> bool {
        false
    }

    /// Blocks A20M#, or heeds it again: VMX operation begins, or ends (SDM vol. 3, 23.8).
    fn block_a20m(&mut self, cpu: &Cpu, blocked: bool) {
        let _ = (cpu, blocked);
    }

    /// A VM entry at `from` was refused. Observing only.
    fn refused_entry(&mut self, cpu: &Cpu, from: EntrySite, refusal: Refusal) {
        let _ = (cpu, from, refusal);
    }

    /// IA32_APIC_BASE was written: the local APIC is elsewhere, or no longer there.
    fn moved_apic(&mut self, cpu: &Cpu) {
        let _ = cpu;
    }

    /// FERR#, the x87's error line to the board, is driven or released. Returns IGNNE#: whether the board
    /// tells the processor to go on in spite of the error.
    fn numeric_error(&mut self, cpu: &Cpu, asserted: bool) -> bool {
        let _ = (cpu, asserted);
        false
    }

    /// INT n, INT3 or INTO has gone through the gate of `vector`. Observing only.
    fn took_software_interrupt(&mut self, vector: u8) {
        let _ = vector;
    }
}

/// The quick ways of an environment, for instructions whose only effects beside registers are reads, or one
/// write. A function that tries an instruction here first, and runs it in `E` after a failure, has no call on
/// its common path.
pub struct Quick<'a, E>(pub &'a mut E);

/// What [`Quick`] returns for all else than success.
const SLOW: Fault = Fault::UD;
/// Why the rest of the seam is not there.
const TRIED: &str = "what is tried reaches memory only";

impl<E: Env> Env for Quick<'_, E> {
    const TRIES: bool = true;

    #[inline(always)]
    fn load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.0.quick_load(cpu, at, user).ok_or(SLOW)
    }
    #[inline(always)]
    fn load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.0.quick_load_for_update(cpu, at, user).ok_or(SLOW)
    }
    #[inline(always)]
    fn store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault> {
        if self.0.quick_store(cpu, at, value, user) { Ok(()) } else { Err(SLOW) }
    }
    fn probe(&mut self, _: &Cpu, _: Linear, _: u32, _: bool, _: bool) -> Result<(), Fault> {
        Err(SLOW)
    }
    fn port_in(&mut self, _: &Cpu, _: u16, _: Width) -> u32 {
        unreachable!("{TRIED}")
    }
    fn port_out(&mut self, _: &Cpu, _: u16, _: Width, _: u32) {
        unreachable!("{TRIED}")
    }
    fn flush_tlb(&mut self, _: bool) {
        unreachable!("{TRIED}")
    }
    fn invalidate_page(&mut self, _: Linear) {
        unreachable!("{TRIED}")
    }
    fn load_pointers(&mut self, _: &Cpu, _: u32) -> Result<[u64; 4], Fault> {
        unreachable!("{TRIED}")
    }
    fn moved_apic(&mut self, _: &Cpu) {
        unreachable!("{TRIED}")
    }
    fn numeric_error(&mut self, _: &Cpu, _: bool) -> bool {
        unreachable!("{TRIED}")
    }
    fn took_software_interrupt(&mut self, _: u8) {
        unreachable!("{TRIED}")
    }
}
