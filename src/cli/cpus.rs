//! `subring cpus`: the processor models.

use super::columns::in_columns;
use super::output::out;
use crate::cpu::vmx::{Pin, Secondary};
use crate::cpu::{Features, Model};
use crate::error::Result;
use clap::Args;
use serde::Serialize;

/// List the processor models and what each has
#[derive(Args)]
pub(super) struct Command {
    /// Print the models as one JSON object
    #[arg(long)]
    json: bool,
}

/// A model, for JSON.
#[derive(Serialize)]
struct Entry {
    name: Model,
    default: bool,
    brand: &'static str,
    signature: String,
    nx: bool,
    vme: bool,
    pat: bool,
    vmx: bool,
    ept: bool,
    vpid: bool,
    unrestricted_guest: bool,
    preemption_timer: bool,
}

impl Entry {
    fn of(model: Model) -> Self {
        let caps = model.vmx();
        let has = |bit: Secondary| {
            caps.and_then(|caps| caps.secondary).is_some_and(|controls| controls.offers(bit.bits()))
        };
        Self {
            name: model,
            default: model == Model::default(),
            brand: model.traits().brand,
            signature: format!("{:x}h", model.signature()),
            nx: model.features().contains(Features::NX),
            vme: model.features().contains(Features::VME),
            pat: model.features().contains(Features::PAT),
            vmx: caps.is_some(),
            ept: has(Secondary::EPT),
            vpid: has(Secondary::VPID),
            unrestricted_guest: has(Secondary::UNRESTRICTED),
            preemption_timer: caps.is_some_and(|caps| caps.pin.offers(Pin::TIMER.bits())),
        }
    }

    fn row(&self) -> [String; 10] {
        let yes = |has: bool| if has { "yes" } else { "-" }.to_string();
        let name = format!("{}{}", self.name, if self.default { " (default)" } else { "" });
        [
            name,
            self.signature.clone(),
            yes(self.nx),
            yes(self.vme),
            yes(self.pat),
            yes(self.vmx),
            yes(self.ept),
            yes(self.vpid),
            yes(self.unrestricted_guest),
            yes(self.preemption_timer),
        ]
    }
}

impl Command {
    /// The command.
    pub(super) fn run(&self) -> Result<u8> {
        let entries: Vec<Entry> = Model::ALL.iter().copied().map(Entry::of).collect();
        if self.json {
            let object = serde_json::json!({ "schema": 1, "models": entries });
            out(format!("{object:#}\n").as_bytes())?;
            return Ok(0);
        }
        let heading = ["model", "signature", "NX", "VME", "PAT", "VMX", "EPT", "VPID", "UG", "timer"];
        let mut text = in_columns(heading, entries.iter().map(Entry::row), 2);
        text.push('\n');
        for &model in Model::ALL {
            text.push_str(&format!("{model}: {}\n", model.traits().brand));
        }
        text.push_str(
            "\nUG: unrestricted guest, which runs real mode in VMX non-root operation as it is.\n\
             timer: the VMX-preemption timer.\n\
             Give a model to `subring run --cpu`. The monitors hide all of these from their guest.\n",
        );
        out(text.as_bytes())?;
        Ok(0)
    }
}
