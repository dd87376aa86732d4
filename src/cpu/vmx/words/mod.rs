//! What a control structure holds, in words: control bits by their names, exit qualifications, events, and
//! VM-instruction errors. `subring vmcs`, `--trace exit` and post-mortems print them.

mod bits;
mod error;
mod last_exit;
mod qualification;
mod state;

pub use bits::{Named, named};
pub use error::instruction_error;
pub use last_exit::LastExit;
pub use qualification::qualification;
pub use state::{activity, rights};

use super::Interruption;
use crate::cpu::fault::vector_name;

/// An event: "#PF (hardware exception), error code 0x2".
pub fn interruption(event: Interruption) -> String {
    let name = match vector_name(event.vector) {
        "interrupt" => format!("vector {:#04x}", event.vector),
        name => name.to_owned(),
    };
    let code = event.code.map_or(String::new(), |code| format!(", error code {code:#x}"));
    let unblocked = if event.unblocked_nmi { ", met by an IRET that had ended blocking by NMI" } else { "" };
    match event.kind {
        super::EventType::Nmi => format!("NMI{unblocked}"),
        kind => format!("{name} ({}){code}{unblocked}", kind.name()),
    }
}

/// A field's name with its encoding, as VMREAD and VMWRITE take it.
pub fn field(field: super::Field) -> String {
    format!("{} ({:04x}h)", field.name(), field.encoding())
}

/// A field's value in as many hexadecimal digits as the field has.
pub fn value(field: super::Field, value: u64) -> String {
    use super::field::Width;
    let digits = match field.width() {
        Width::Word => 4,
        Width::Dword | Width::Natural => 8,
        Width::Quad => 16,
    };
    format!("0x{value:0digits$x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vmx::{EventType, Field};

    #[test]
    fn events_and_values_are_told() {
        let mut fault = Interruption::new(14, EventType::HardwareException);
        fault.code = Some(2);
        assert_eq!(interruption(fault), "#PF (hardware exception), error code 0x2");
        assert_eq!(
            interruption(Interruption::new(0x20, EventType::External)),
            "vector 0x20 (external interrupt)"
        );
        assert_eq!(interruption(Interruption::new(2, EventType::Nmi)), "NMI");
        assert_eq!(value(Field::GuestCs, 8), "0x0008");
        assert_eq!(value(Field::TscOffset, 8), "0x0000000000000008");
        assert_eq!(field(Field::GuestCr0), "Guest CR0 (6800h)");
    }
}
