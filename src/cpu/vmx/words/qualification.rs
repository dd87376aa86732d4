//! Exit qualifications (SDM vol. 3, 27.2.1): what each says depends on the exit's reason.

use crate::cpu::vmx::{Interruption, Reason};

/// What the exit qualification `q` says; `None` where it says nothing. Of an exception that depends on the
/// `event`.
pub fn qualification(reason: Reason, q: u32, event: Option<Interruption>) -> Option<String> {
    use Reason::*;
    match reason {
        Exception => exception(q, event?.vector),
        TaskSwitch => Some(task_switch(q)),
        Invlpg => Some(format!("linear address {q:#010x}")),
        ControlRegister => Some(control_register(q)),
        MovDr => Some(mov_dr(q)),
        Io => Some(io(q)),
        Vmclear | Vmptrld | Vmptrst | Vmread | Vmwrite | Vmxon | Invept | Invvpid => {
            (q != 0).then(|| format!("displacement {q:#x} of the memory operand"))
        }
        EntryGuestState => guest_state(q),
        EntryMsrLoading => Some(format!("entry {q} of the VM-entry MSR-load area")),
        Mwait => Some(if q & 1 != 0 { "monitoring is armed" } else { "monitoring is not armed" }.into()),
        EptViolation => Some(ept_violation(q)),
        _ => None,
    }
}

/// Names of the general registers, by number.
const GENERAL: [&str; 8] = ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"];

fn general(q: u32) -> &'static str {
    GENERAL[(q >> 8 & 7) as usize]
}

fn exception(q: u32, vector: u8) -> Option<String> {
    match vector {
        14 => Some(format!("linear address {q:#010x}")),
        1 => {
            let breakpoints = (0..4).filter(|n| q >> n & 1 != 0).map(|n| format!("breakpoint {n}"));
            let bd = (q >> 13 & 1 != 0).then(|| "access to a debug register".to_owned());
            let bs = (q >> 14 & 1 != 0).then(|| "single step".to_owned());
            let all: Vec<String> = breakpoints.chain(bd).chain(bs).collect();
            (!all.is_empty()).then(|| all.join(", "))
        }
        _ => None,
    }
}

fn task_switch(q: u32) -> String {
    let by = ["CALL", "IRET", "JMP", "a task gate in the IDT"][(q >> 30) as usize];
    format!("to the TSS of selector {:#06x}, by {by}", q & 0xffff)
}

fn control_register(q: u32) -> String {
    let n = q & 15;
    match q >> 4 & 3 {
        0 => format!("MOV to CR{n} from {}", general(q)),
        1 => format!("MOV from CR{n} to {}", general(q)),
        2 => "CLTS".into(),
        _ => {
            let from = if q & 1 << 6 != 0 { "memory" } else { "a register" };
            format!("LMSW of {:#06x} from {from}", q >> 16)
        }
    }
}

fn mov_dr(q: u32) -> String {
    let (to, from) = if q & 1 << 4 != 0 { ("from", "to") } else { ("to", "from") };
    format!("MOV {to} DR{} {from} {}", q & 7, general(q))
}

fn io(q: u32) -> String {
    let bytes = (q & 7) + 1;
    let s = if bytes == 1 { "" } else { "s" };
    let (port, input, string) = (q >> 16, q & 1 << 3 != 0, q & 1 << 4 != 0);
    let rep = if q & 1 << 5 != 0 { "REP " } else { "" };
    let name = match (input, string) {
        (true, false) => "IN from",
        (false, false) => "OUT to",
        (true, true) => "INS from",
        (false, true) => "OUTS to",
    };
    let operand = if q & 1 << 6 != 0 { "immediate operand" } else { "port in DX" };
    format!("{rep}{name} port {port:#06x}, {bytes} byte{s}, {operand}")
}

/// SDM vol. 3, 26.7.
fn guest_state(q: u32) -> Option<String> {
    Some(
        match q {
            2 => "loading the page-directory-pointer-table entries failed",
            3 => "an NMI was to be injected, with blocking by STI",
            4 => "the VMCS link pointer is wrong",
            _ => return None,
        }
        .into(),
    )
}

fn ept_violation(q: u32) -> String {
    let accesses = [(0, "read"), (1, "write"), (2, "fetch")];
    let access: Vec<&str> = accesses.iter().filter(|(n, _)| q >> n & 1 != 0).map(|(_, name)| *name).collect();
    let allowed: String =
        [(3, 'r'), (4, 'w'), (5, 'x')].iter().map(|&(n, c)| if q >> n & 1 != 0 { c } else { '-' }).collect();
    let at = match (q & 1 << 7 != 0, q & 1 << 8 != 0) {
        (false, _) => "without a linear address",
        (true, false) => "of a guest paging structure, during a walk",
        (true, true) => "of the page that a linear address leads to",
    };
    format!("{} {at}; the entries allow {allowed}", access.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vmx::EventType;

    #[track_caller]
    fn said(reason: Reason, q: u32, wanted: &str) {
        assert_eq!(qualification(reason, q, None).as_deref(), Some(wanted));
    }

    #[test]
    fn qualifications_are_told() {
        said(Reason::ControlRegister, 0x300, "MOV to CR0 from EBX");
        said(Reason::ControlRegister, 0x13, "MOV from CR3 to EAX");
        said(Reason::ControlRegister, 0x20, "CLTS");
        said(Reason::ControlRegister, 0x0008_0070, "LMSW of 0x0008 from memory");
        said(Reason::MovDr, 0x17, "MOV from DR7 to EAX");
        said(Reason::MovDr, 0x107, "MOV to DR7 from ECX");
        said(Reason::Io, 0x03f8_0000, "OUT to port 0x03f8, 1 byte, port in DX");
        said(Reason::Io, 0x0064_0048, "IN from port 0x0064, 1 byte, immediate operand");
        said(Reason::Io, 0x01f0_0039, "REP INS from port 0x01f0, 2 bytes, port in DX");
        said(Reason::TaskSwitch, 0x4000_0028, "to the TSS of selector 0x0028, by IRET");
        said(
            Reason::EptViolation,
            0x182,
            "write of the page that a linear address leads to; the entries allow ---",
        );
        said(
            Reason::EptViolation,
            0x89,
            "read of a guest paging structure, during a walk; the entries allow r--",
        );
        said(Reason::EntryGuestState, 4, "the VMCS link pointer is wrong");
        assert_eq!(qualification(Reason::EntryGuestState, 0, None), None);
        assert_eq!(qualification(Reason::Cpuid, 0, None), None);
    }

    #[test]
    fn exceptions_have_qualifications_of_their_own() {
        let of = |vector, q| {
            let event = Interruption::new(vector, EventType::HardwareException);
            qualification(Reason::Exception, q, Some(event))
        };
        assert_eq!(of(14, 0x1000).as_deref(), Some("linear address 0x00001000"));
        assert_eq!(of(1, 0x4001).as_deref(), Some("breakpoint 0, single step"));
        assert_eq!(of(13, 0), None);
    }
}
