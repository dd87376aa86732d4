//! Popek and Goldberg's properties, put to the monitor by generated guests. The files are compiled into the
//! library's own tests, because the seeded bugs (`vmm::bug`) exist only there.

mod audit;
mod caps;
mod changing;
mod cuts;
mod disciplined;
mod engines;
mod equivalence;
mod first;
mod flat;
mod forms;
mod kernel;
mod lockstep;
mod order;
mod pair;
mod printed;
mod properties;
mod pushes;
mod returns;
mod rom;
mod seeded;
mod spaces;
mod stale;
mod translation;
mod unflushed;
mod video;
mod walk;
mod watched;

#[path = "../fuzz/bytes.rs"]
mod bytes;
#[path = "../fuzz/machine.rs"]
mod machine;
#[path = "../common/seed.rs"]
#[allow(dead_code, reason = "not every test that shares this file uses all of it")]
mod seed;
