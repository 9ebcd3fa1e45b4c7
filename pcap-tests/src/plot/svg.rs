//! Drawing: panels over a common time axis, as SVG without scripts or styles from elsewhere.

use std::fmt::Write;

use super::axis::Axis;

const LEFT: f64 = 80.0;
const RIGHT: f64 = 70.0;
/// Marks that fall on one place of this grid (in pixels) are drawn once: a long flow stays a small file.
const GRID: f64 = 4.0;

/// A part of the picture with axes of its own.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub top: f64,
    pub height: f64,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

/// A picture under way. Writing to a String does not fail.
pub struct Svg {
    out: String,
    width: f64,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"DejaVu Sans,Helvetica,Arial,sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        Self { out, width }
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    fn x(&self, panel: &Panel<'_>, value: f64) -> f64 {
        LEFT + panel.x.place(value) * (self.width - LEFT - RIGHT)
    }

    fn y(panel: &Panel<'_>, value: f64) -> f64 {
        panel.top + panel.height * (1.0 - panel.y.place(value))
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, more: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>"
        );
    }

    pub fn title(&mut self, title: &str, subtitle: &str) {
        self.text(
            LEFT,
            28.0,
            "start",
            "font-size=\"17\" font-weight=\"bold\" fill=\"#222\"",
            title,
        );
        self.text(LEFT, 48.0, "start", "fill=\"#555\"", subtitle);
    }

    /// Names and colours, in a row under the title.
    pub fn legend(&mut self, entries: &[(&str, &str)]) {
        let mut x = LEFT;
        for (name, colour) in entries {
            let _ = writeln!(
                self.out,
                "<rect x=\"{x:.1}\" y=\"62\" width=\"14\" height=\"10\" fill=\"{colour}\"/>"
            );
            self.text(x + 20.0, 71.5, "start", "fill=\"#333\"", name);
            x += 44.0 + name.len() as f64 * 7.4;
        }
    }

    /// Labels of the time axis, under the lowest panel.
    pub fn times(&mut self, axis: &Axis, bottom: f64) {
        for (value, text) in axis.labels() {
            let x = LEFT + axis.place(value) * (self.width - LEFT - RIGHT);
            let more = "fill=\"#555\" font-size=\"11\"";
            self.text(x, bottom + 15.0, "middle", more, &format!("{text} s"));
        }
    }

    /// The panel's ground, grid and labels.
    pub fn frame(&mut self, panel: &Panel<'_>, name: &str) {
        let (right, bottom) = (self.width - RIGHT, panel.top + panel.height);
        let _ = writeln!(
            self.out,
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#fafbfc\" stroke=\"#c4c9d0\"/>",
            panel.top,
            right - LEFT,
            panel.height
        );
        for (value, text) in panel.y.labels() {
            let y = Self::y(panel, value);
            self.line(LEFT, y, right, y, "#e4e7eb", 1.0);
            self.text(LEFT - 6.0, y + 4.0, "end", "fill=\"#555\" font-size=\"11\"", &text);
        }
        for (value, _) in panel.x.labels() {
            let x = self.x(panel, value);
            self.line(x, panel.top, x, bottom, "#e4e7eb", 1.0);
        }
        let middle = panel.top + panel.height / 2.0;
        let turned = format!("fill=\"#333\" transform=\"rotate(-90 20 {middle:.1})\"");
        self.text(20.0, middle, "middle", &turned, name);
    }

    /// Labels at the right, for a second measure in the same panel.
    pub fn right_axis(&mut self, panel: &Panel<'_>, name: &str) {
        let right = self.width - RIGHT;
        for (value, text) in panel.y.labels() {
            let y = Self::y(panel, value) + 4.0;
            self.text(right + 6.0, y, "start", "fill=\"#777\" font-size=\"11\"", &text);
        }
        let (x, middle) = (self.width - 14.0, panel.top + panel.height / 2.0);
        let turned = format!("fill=\"#333\" transform=\"rotate(-90 {x:.1} {middle:.1})\"");
        self.text(x, middle, "middle", &turned, name);
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) {
        let _ = writeln!(
            self.out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    /// Upright bars at a time, from one value to another.
    pub fn bars(&mut self, panel: &Panel<'_>, bars: &[(f64, f64, f64)], colour: &str, width: f64) {
        let mut path = String::new();
        let mut last = None;
        for (time, from, to) in bars {
            let (x, low, high) = (self.x(panel, *time), Self::y(panel, *from), Self::y(panel, *to));
            // What is less than a pixel high is still to be seen.
            let high = high.min(low - 1.2);
            let place = [x, low, high].map(|v| (v * GRID).round() as i64);
            if last != Some(place) {
                let _ = write!(path, "M{x:.2} {low:.2}V{high:.2}");
            }
            last = Some(place);
        }
        self.path(&path, colour, width, "none");
    }

    /// A line that stays until the next value; values above the panel are left out.
    pub fn steps(&mut self, panel: &Panel<'_>, points: &[(f64, f64)], colour: &str, width: f64) {
        let mut path = String::new();
        let mut last = None;
        for (time, value) in points {
            if *value > panel.y.to {
                last = None;
                continue;
            }
            let (x, y) = (self.x(panel, *time), Self::y(panel, *value));
            let place = [x, y].map(|v| (v * GRID).round() as i64);
            match last {
                None => drop(write!(path, "M{x:.2} {y:.2}")),
                Some(last) if last == place => {}
                Some(_) => drop(write!(path, "H{x:.2}V{y:.2}")),
            }
            last = Some(place);
        }
        self.path(&path, colour, width, "none");
    }

    /// Columns from the bottom, `width` of time wide.
    pub fn area(&mut self, panel: &Panel<'_>, points: &[(f64, f64)], width: f64, colour: &str) {
        let bottom = panel.top + panel.height;
        let mut path = String::new();
        for (time, value) in points.iter().filter(|(_, value)| *value > 0.0) {
            let (left, right) = (self.x(panel, *time), self.x(panel, time + width));
            let top = Self::y(panel, *value);
            let _ = write!(path, "M{left:.2} {bottom:.2}V{top:.2}H{right:.2}V{bottom:.2}Z");
        }
        let _ = writeln!(self.out, "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.35\"/>");
    }

    pub fn dots(&mut self, panel: &Panel<'_>, points: &[(f64, f64)], colour: &str) {
        let mut path = String::new();
        let mut last = None;
        for (time, value) in points {
            let (x, y) = (self.x(panel, *time), Self::y(panel, *value));
            let place = [x, y].map(|v| (v * GRID).round() as i64);
            if last != Some(place) {
                let _ = write!(path, "M{x:.2} {y:.2}h0.01");
            }
            last = Some(place);
        }
        self.path(&path, colour, 3.0, "none");
    }

    fn path(&mut self, path: &str, colour: &str, width: f64, fill: &str) {
        let _ = writeln!(
            self.out,
            "<path d=\"{path}\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linecap=\"round\"/>"
        );
    }

    /// A letter above a place.
    pub fn letter(&mut self, panel: &Panel<'_>, time: f64, value: f64, letter: char) {
        let (x, y) = (self.x(panel, time), Self::y(panel, value) - 4.0);
        let more = "font-size=\"11\" font-weight=\"bold\" fill=\"#222\"";
        self.text(x, y, "middle", more, &letter.to_string());
    }
}
