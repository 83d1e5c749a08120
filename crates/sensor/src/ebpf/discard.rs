//! Reading the rings and throwing away what is in them: the least that any reader of these programs costs, to measure others against.

use std::{cell::Cell, ops::ControlFlow, rc::Rc, thread, time::Duration};

use libbpf_rs::RingBufferBuilder;

use super::{EbpfConfig, EbpfError, attached::Attached};

/// As long as the sensor leaves the rings alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Loads and attaches the programs as [`super::start`] does, and empties the rings ten times a second without a look at what is in them.
/// Each time, `turn` is told how many records there were, and says whether to go on.
pub fn discard(config: &EbpfConfig, mut turn: impl FnMut(u64) -> ControlFlow<()>) -> Result<(), EbpfError> {
    let refused = |e: libbpf_rs::Error| EbpfError::Refused(format!("{e:#}"));
    let attached = Attached::new(config)?;
    let records = Rc::new(Cell::new(0));
    let mut builder = RingBufferBuilder::new();
    let maps = [attached.map("events")?, attached.map("bulk")?];
    for map in &maps {
        let records = Rc::clone(&records);
        let count = move |_: &[u8]| {
            records.set(records.get() + 1);
            0
        };
        builder.add(map, count).map_err(refused)?;
    }
    let rings = builder.build().map_err(refused)?;
    loop {
        rings.consume().map_err(refused)?;
        if turn(records.take()).is_break() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}
