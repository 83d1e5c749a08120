//! What monitoring asks: `GET /metrics`, figures in Prometheus' text format, and `GET /health`, whether all is well.
//!
//! The figures are the same that `luarm status` shows. Each is declared once, in [`families`]; docs/metrics.md is made of the declarations.

mod address;
mod families;
mod figures;
mod http;
mod recorder;
mod server;

use self::figures::Figures;
pub(crate) use self::{address::Address, http::serve};

/// Something that can be monitored. Both calls may block.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// Its figures now.
    fn figures(&self) -> Figures;

    /// Nothing if all is well, else what is not, on one line.
    fn health(&self) -> Result<(), String>;
}
