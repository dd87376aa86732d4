//! VM-instruction errors (SDM vol. 3, 30.4).

/// What the VM-instruction error `number` means; `None` for one that does not exist.
pub fn instruction_error(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => "VMCALL in VMX root operation",
        2 => "VMCLEAR of an address that is no page in physical memory",
        3 => "VMCLEAR of the VMXON region",
        4 => "VMLAUNCH with a VMCS that is launched already: VMRESUME enters it, or VMCLEAR makes it new",
        5 => "VMRESUME with a VMCS that is not launched: the first entry takes VMLAUNCH",
        6 => "VMRESUME after VMXOFF",
        7 => "a VM entry with a control field that is wrong",
        8 => "a VM entry with a host-state field that is wrong",
        9 => "VMPTRLD of an address that is no page in physical memory",
        10 => "VMPTRLD of the VMXON region",
        11 => "VMPTRLD of a region that does not begin with the revision identifier of IA32_VMX_BASIC",
        12 => "VMREAD or VMWRITE of a field that this processor does not have",
        13 => "VMWRITE to a read-only field",
        15 => "VMXON in VMX root operation",
        16 => "a VM entry with an executive-VMCS pointer that is wrong",
        17 => "a VM entry with an executive VMCS that is not launched",
        18 => "a VM entry with an executive-VMCS pointer that is not the VMXON pointer",
        19 => "VMCALL with a VMCS that is not clear",
        20 => "VMCALL with VM-exit controls that are wrong",
        22 => "VMCALL with a wrong MSEG revision identifier",
        23 => "VMXOFF under dual-monitor treatment of SMIs and SMM",
        24 => "VMCALL with wrong SMM-monitor features",
        25 => "a VM entry with VM-execution controls that are wrong in the executive VMCS",
        26 => "a VM entry right after MOV SS, whose blocking of events still holds",
        28 => "INVEPT or INVVPID with a type or a descriptor that is wrong",
        _ => return None,
    })
}
