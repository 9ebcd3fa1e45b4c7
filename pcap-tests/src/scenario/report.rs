//! What a scenario gave, for people.

use comfy_table::{CellAlignment, Table, presets};

use super::Outcome;
use super::units::{Bytes, Quantity, Rate, Share, Span};

const HEAD: [&str; 10] = [
    "flow",
    "connections",
    "bytes",
    "time",
    "goodput",
    "sent again",
    "timeouts",
    "longest pause",
    "rtt",
    "",
];

impl Outcome {
    /// A line for each flow.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(HEAD);
        for flow in &self.flows {
            let measured = &flow.measured;
            let missing = || "-".to_owned();
            table.add_row([
                flow.name.clone(),
                measured.connections.to_string(),
                Bytes(measured.bytes).show(),
                measured.time.map_or_else(missing, |time| Span(time).show()),
                measured.goodput().map_or_else(missing, |rate| Rate(rate).show()),
                Share(measured.retransmitted()).show(),
                measured.timeouts.to_string(),
                Span(measured.pause).show(),
                measured.rtt.map_or_else(missing, |rtt| Span(rtt).show()),
                if flow.complaints.is_empty() { "as expected" } else { "NOT as expected" }.into(),
            ]);
        }
        for column in table.column_iter_mut().skip(1).take(HEAD.len() - 2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}
