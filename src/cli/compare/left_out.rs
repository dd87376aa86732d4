//! The cells that the machine's processor cannot run: `compare` leaves their rows out, and says so.

use crate::cell::{Cell, listed};
use crate::cli::guest_args::GuestArgs;
use crate::cpu::Model;
use crate::vmm;
use serde::{Serialize, Serializer};

/// Cells without a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct LeftOut {
    /// The processor that was asked for.
    #[serde(skip)]
    model: Model,
    /// What this one cannot run.
    #[serde(serialize_with = "names")]
    cells: Vec<Cell>,
    /// The models that run all of these.
    cpu: Vec<Model>,
}

fn names<S: Serializer>(cells: &[Cell], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(cells.iter().map(Cell::to_string))
}

/// Those of `cells` that get a row, and what is left out. Where the processor of `guest` can run none, all stay: the
/// first one's refusal then says what is missing.
pub(super) fn divided(cells: Vec<Cell>, guest: &GuestArgs) -> (Vec<Cell>, Option<LeftOut>) {
    let on = |model: Option<Model>, cell: Cell| {
        vmm::can_run(&vmm::Config { processor: model, ..guest.monitor_for(cell) }).is_ok()
    };
    let (run, out): (Vec<_>, Vec<_>) = cells.iter().copied().partition(|cell| on(guest.cpu, *cell));
    if run.is_empty() || out.is_empty() {
        return (cells, None);
    }
    let all = |model: &Model| out.iter().all(|cell| on(Some(*model), *cell));
    let cpu = Model::ALL.iter().copied().filter(all).collect();
    (run, Some(LeftOut { model: guest.model(), cells: out, cpu }))
}

impl LeftOut {
    /// The cells, and the processors that run them.
    pub(in crate::cli) fn sentence(&self) -> String {
        let cells: Vec<_> = self.cells.iter().map(Cell::to_string).collect();
        format!(
            "left out: {}, which --cpu {} cannot run: give --cpu {}",
            cells.join(", "),
            self.model,
            listed(&self.cpu)
        )
    }
}
