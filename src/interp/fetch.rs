//! Fetching: from CS:EIP to a decoded trace, through the cache.

use super::{Bound, Interp};
use crate::addr::{GuestPhys, Linear, PAGE_OFFSET, PAGE_SIZE};
use crate::cpu::{Cpu, Fault};
use crate::decode::SegReg;
use crate::decode::cache::{Crossing, Key, MOST, Trace};
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, decode};
use crate::exec::{Env, ops};

/// The most code that a trace can come from, in bytes.
const LONGEST: usize = MOST * MAX_INSN_LEN;

/// What the run loop needs of the world beyond what instructions need.
pub trait CodeEnv: Env {
    /// Translates an instruction fetch.
    ///
    /// # Errors
    /// #PF.
    fn fetch_address(&mut self, cpu: &Cpu, at: Linear) -> Result<GuestPhys, Fault>;
    /// Moves on when a translation of an earlier [`CodeEnv::fetch_address`] may have become void.
    fn fetch_epoch(&self) -> u32;
    /// Reads code bytes within one page.
    fn read_code(&mut self, cpu: &Cpu, at: GuestPhys, buf: &mut [u8]);
    /// Notes that `len` bytes at `at`, within one page, were decoded. Returns false if changes there cannot be
    /// noticed, so that they must not be cached.
    fn mark_code(&mut self, at: GuestPhys, len: u32) -> bool;
    /// The generation of the page of `at`.
    fn generation(&self, at: GuestPhys) -> u32;
    /// Forgets that decoded code has gone stale. Until then [`CodeEnv::wants_attention`] holds; what made it stale has
    /// set [`Cpu::leave`].
    fn clear_code_changed(&mut self);
    /// Moves on each time that decoded code goes stale, also when somebody else has cleared that.
    fn code_epoch(&self) -> u32;
    /// Whether any of code gone stale, chips touched, interrupt requested and let through by IF holds.
    fn wants_attention(&self, cpu: &Cpu) -> bool;
    /// Whether a chip was spoken to since this was last asked.
    fn take_chips_touched(&mut self) -> bool;
    /// The interrupt controller's request line.
    fn interrupt_requested(&self) -> bool;
    /// From now on each data access is to be looked at (breakpoints, alignment), or no more.
    fn check_each_access(&mut self, on: bool);
    /// Whether it does.
    fn checks_each_access(&self) -> bool;
    /// DR6 bits of data and I/O breakpoints hit since this was last asked.
    fn take_break_hits(&mut self) -> u32;
    /// Moves on when decoded code as a whole is void (the memory map changed).
    fn map_epoch(&self) -> u32;
    /// Whether somebody looks at each memory access, and at the time of it.
    fn watches_memory(&self) -> bool {
        false
    }
}

/// Instructions that follow each other, as they were decoded.
pub(crate) struct Run {
    /// In order; at least one.
    pub(crate) insns: Vec<Insn>,
    /// Their bytes.
    pub(crate) code: Vec<u8>,
    /// The second page of an instruction that crosses into it; then it is the only one.
    pub(crate) crossing: Option<Crossing>,
}

/// A page that code was fetched from: a one-entry instruction TLB.
pub(super) struct Page {
    linear: u32,
    frame: u32,
    epoch: u32,
}

impl Default for Page {
    fn default() -> Self {
        // A tag that no page has.
        Self { linear: 1, frame: 0, epoch: 0 }
    }
}

/// The code pages in a saved state, by mode: linear and physical address of each that still counts. Like the TLB's
/// entries they may be staler than the page tables.
pub type Saved = [Option<(u32, u32)>; 2];

impl<E: CodeEnv> Interp<E> {
    /// The code pages.
    pub fn save(&self, env: &E) -> Saved {
        self.pages.each_ref().map(|p| {
            (p.epoch == env.fetch_epoch() && p.linear != Page::default().linear)
                .then_some((p.linear, p.frame))
        })
    }

    /// Takes them back, and forgets all decoded code.
    pub fn restore(&mut self, saved: &Saved, env: &E) {
        *self = Self { map_epoch: env.map_epoch(), ..Self::default() };
        for (page, saved) in self.pages.iter_mut().zip(saved) {
            if let Some((linear, frame)) = *saved {
                *page = Page { linear, frame, epoch: env.fetch_epoch() };
            }
        }
    }

    /// The frame of the page of CS:EIP, if it is known.
    pub(crate) fn page(&self, cpu: &Cpu, env: &E) -> Option<GuestPhys> {
        let page = &self.pages[usize::from(cpu.user)];
        let known = page.linear == cpu.linear_eip() & !PAGE_OFFSET && page.epoch == env.fetch_epoch();
        known.then_some(GuestPhys(page.frame))
    }

    /// Where the code at CS:EIP is.
    ///
    /// # Errors
    /// What fetching its first byte raises.
    #[inline(always)]
    pub(crate) fn code_address(&mut self, cpu: &Cpu, env: &mut E) -> Result<GuestPhys, Fault> {
        let at = cpu.linear_eip();
        let page = &self.pages[usize::from(cpu.user)];
        if page.linear != at & !PAGE_OFFSET || page.epoch != env.fetch_epoch() {
            self.turn_page(cpu, env, Linear(at))?;
        }
        Ok(GuestPhys(self.pages[usize::from(cpu.user)].frame | (at & PAGE_OFFSET)))
    }

    /// The decoded instructions at CS:EIP, if they are watched for changes. Makes what a translator translates.
    ///
    /// # Errors
    /// What fetching the first of them raises.
    pub(crate) fn decoded(&mut self, cpu: &Cpu, env: &mut E) -> Result<Option<Run>, Fault> {
        let trace = self.trace(cpu, env)?;
        let phys = self.code_address(cpu, env)?;
        let key = Key::new(phys, cpu.code32());
        if self.cache.find(key, env.generation(phys)).is_none() {
            return Ok(None);
        }
        let insns = self.cache.insns(trace).iter().map(|bound| bound.insn).collect();
        let code = self.cache.find_stale(key).map_or_else(Vec::new, |(_, code)| code.to_vec());
        Ok(Some(Run { insns, code, crossing: self.cache.crossing(trace) }))
    }

    /// Whether the page after that of CS:EIP is still the frame, in the state, that `c` says.
    ///
    /// # Errors
    /// What fetching from there raises.
    pub(crate) fn still_crosses(&mut self, cpu: &Cpu, env: &mut E, c: Crossing) -> Result<bool, Fault> {
        let next = env.fetch_address(cpu, next_page(cpu))?.page();
        Ok(next == c.frame && env.generation(next) == c.generation)
    }

    /// The trace at CS:EIP.
    #[inline(always)]
    pub(super) fn trace(&mut self, cpu: &Cpu, env: &mut E) -> Result<Trace, Fault> {
        let phys = self.code_address(cpu, env)?;
        let key = Key::new(phys, cpu.code32());
        if let Some(trace) = self.cache.find(key, env.generation(phys)) {
            let limit = cpu.seg(SegReg::Cs).limit;
            if !trace.crosses() && u64::from(cpu.eip) + u64::from(trace.bytes) <= u64::from(limit) + 1 {
                return Ok(trace);
            }
        }
        self.trace_slow(cpu, env, phys, key)
    }

    #[cold]
    #[inline(never)]
    fn turn_page(&mut self, cpu: &Cpu, env: &mut E, at: Linear) -> Result<(), Fault> {
        // A fetch beyond the segment faults before it is translated.
        check_limit(cpu, 1)?;
        let frame = env.fetch_address(cpu, at)?.page();
        if self.map_epoch != env.map_epoch() {
            self.map_epoch = env.map_epoch();
            self.cache.flush();
        }
        self.pages[usize::from(cpu.user)] =
            Page { linear: at.page().0, frame: frame.0, epoch: env.fetch_epoch() };
        Ok(())
    }

    /// A miss, a trace that crosses a page, or one that reaches beyond the code segment.
    #[cold]
    #[inline(never)]
    fn trace_slow(&mut self, cpu: &Cpu, env: &mut E, phys: GuestPhys, key: Key) -> Result<Trace, Fault> {
        if let Some(trace) = self.cache.find(key, env.generation(phys)) {
            let in_limit = check_limit(cpu, u32::from(trace.bytes)).is_ok();
            match self.cache.crossing(trace) {
                None if in_limit => return Ok(trace),
                Some(c) if in_limit && self.still_crosses(cpu, env, c)? => return Ok(trace),
                _ => {}
            }
        }
        if let Some(trace) = self.unchanged(cpu, env, phys, key) {
            return Ok(trace);
        }
        self.decode_trace(cpu, env, phys, key)
    }

    /// A trace whose page was written to, but not where its own code is: data among code, or the same bytes again.
    fn unchanged(&mut self, cpu: &Cpu, env: &mut E, phys: GuestPhys, key: Key) -> Option<Trace> {
        let (trace, code) = self.cache.find_stale(key)?;
        if trace.crosses() || check_limit(cpu, u32::from(trace.bytes)).is_err() {
            return None;
        }
        let mut now = [0u8; LONGEST];
        let now = &mut now[..code.len()];
        env.read_code(cpu, phys, now);
        if now != code || !env.mark_code(phys, u32::from(trace.bytes)) {
            return None;
        }
        self.cache.renew(key, env.generation(phys));
        Some(trace)
    }

    fn decode_trace(&mut self, cpu: &Cpu, env: &mut E, phys: GuestPhys, key: Key) -> Result<Trace, Fault> {
        let mut page = [0u8; LONGEST];
        let room = (PAGE_SIZE - phys.page_offset()).min(LONGEST as u32);
        let limit = cpu.seg(SegReg::Cs).limit;
        check_limit(cpu, 1)?;
        // Bytes beyond the segment's limit are not there.
        let room = u64::from(room).min(u64::from(limit) - u64::from(cpu.eip) + 1) as usize;
        env.read_code(cpu, phys, &mut page[..room]);
        let code = &page[..room];

        let mut insns: Vec<Insn> = Vec::with_capacity(MOST);
        let mut used = 0;
        while insns.len() < MOST {
            match decode(&code[used..], cpu.code32()) {
                Decoded::Insn(insn) => {
                    let alone = self.alone.is_some_and(|which| which(&insn));
                    if alone && !insns.is_empty() {
                        break;
                    }
                    used += usize::from(insn.len);
                    insns.push(insn);
                    if alone || insn.ends_trace() {
                        break;
                    }
                }
                Decoded::TooLong if insns.is_empty() => return Err(Fault::GP0),
                Decoded::Truncated if insns.is_empty() => return self.decode_crossing(cpu, env, phys, key),
                _ => break,
            }
        }
        let cached = env.mark_code(phys, used as u32);
        if !cached {
            insns.truncate(1);
            used = usize::from(insns[0].len);
        }
        // What cannot be watched is kept under a generation that is never asked for again.
        let generation = if cached { env.generation(phys) } else { env.generation(phys).wrapping_sub(1) };
        let near = insns.last().is_some_and(|last| last.is_near_branch() || !last.ends_trace());
        let bound = insns.into_iter().map(bind);
        Ok(self.cache.insert((key, generation), &page[..used], near, None, bound))
    }

    /// A single instruction whose tail lies in the next page.
    fn decode_crossing(&mut self, cpu: &Cpu, env: &mut E, phys: GuestPhys, key: Key) -> Result<Trace, Fault> {
        let mut code = [0u8; MAX_INSN_LEN];
        let head = (PAGE_SIZE - phys.page_offset()).min(MAX_INSN_LEN as u32) as usize;
        let limit = u64::from(cpu.seg(SegReg::Cs).limit);
        let in_segment = (limit - u64::from(cpu.eip) + 1).min(MAX_INSN_LEN as u64) as usize;
        if in_segment <= head {
            // The instruction runs into the segment's limit before it is complete.
            return Err(Fault::GP0);
        }
        env.read_code(cpu, phys, &mut code[..head]);
        let next = env.fetch_address(cpu, next_page(cpu))?.page();
        env.read_code(cpu, next, &mut code[head..in_segment]);
        let insn = match decode(&code[..in_segment], cpu.code32()) {
            Decoded::Insn(insn) => insn,
            _ => return Err(Fault::GP0),
        };
        let tail = (u32::from(insn.len)).saturating_sub(head as u32).max(1);
        let cached = env.mark_code(phys, head as u32) & env.mark_code(next, tail);
        let generation = if cached { env.generation(phys) } else { env.generation(phys).wrapping_sub(1) };
        let crossing = Some(Crossing { frame: next, generation: env.generation(next) });
        // It depends on a second page, so it is looked up each time.
        Ok(self.cache.insert(
            (key, generation),
            &code[..usize::from(insn.len)],
            false,
            crossing,
            [bind(insn)],
        ))
    }

    /// What the instruction at CS:EIP is, from the cache where it can be.
    ///
    /// # Errors
    /// What fetching it raises.
    pub(crate) fn peek(&mut self, cpu: &Cpu, env: &mut E) -> Result<Insn, Fault> {
        Ok(self.one(cpu, env)?.insn)
    }

    /// The instruction at CS:EIP alone.
    pub(super) fn one(&mut self, cpu: &Cpu, env: &mut E) -> Result<Bound<E>, Fault> {
        let trace = self.trace(cpu, env)?;
        Ok(self.cache.insns(trace)[0])
    }
}

fn bind<E: Env>(insn: Insn) -> Bound<E> {
    Bound { run: ops::bind(&insn), insn }
}

/// #GP(0) unless `bytes` at EIP lie within the code segment.
fn check_limit(cpu: &Cpu, bytes: u32) -> Result<(), Fault> {
    let limit = cpu.seg(SegReg::Cs).limit;
    if u64::from(cpu.eip) + u64::from(bytes) > u64::from(limit) + 1 { Err(Fault::GP0) } else { Ok(()) }
}

fn next_page(cpu: &Cpu) -> Linear {
    Linear((cpu.linear_eip() & !PAGE_OFFSET).wrapping_add(PAGE_SIZE))
}
