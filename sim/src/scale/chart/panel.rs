//! One panel: one or two kinds of calls on an axis of their own.

use std::{collections::BTreeMap, fmt::Write as _};

use maud::{Markup, html};

use super::{
    LEFT, RIGHT, WIDTH,
    axis::{Axis, round_step},
    colour,
};
use crate::scale::{table::grouped, tally::BINS, tally::Kind};

/// How wide a point is on the page.
const POINT: f64 = 1.5;

pub(super) struct Panel {
    /// For each kind, how many calls there were in the second up to each bin.
    series: Vec<(Kind, Vec<u64>)>,
    bound: Option<(f64, String)>,
}

impl Panel {
    pub(super) fn new(kinds: &[Kind], rates: &BTreeMap<Kind, Vec<u32>>) -> Self {
        let of = |kind: &Kind| (*kind, seconds(rates.get(kind).map_or(&[], Vec::as_slice)));
        Self { series: kinds.iter().map(of).collect(), bound: None }
    }

    /// With a line that should not be crossed.
    pub(super) fn bounded(self, most: f64, text: String) -> Self {
        Self { bound: Some((most, text)), ..self }
    }

    pub(super) fn draw(&self, time: &Axis, top: f64, height: f64) -> Markup {
        let bottom = top + height;
        let (most, step) = self.scale();
        let axis = Axis::new(0.0, most, bottom, top);
        html! {
            @for tick in 0..=(most / step).round() as u64 {
                @let value = tick as f64 * step;
                @let y = axis.at(value);
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                text.tick x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (grouped(value as u64)) }
            }
            @for (kind, series) in &self.series {
                @let line = outline(series, time, &axis);
                @if let (Some(first), Some(last)) = (line.first(), line.last()) {
                    @let around = [&[(first.0, bottom)], &line[..], &[(last.0, bottom)]].concat();
                    polygon.area points=(points(&around)) fill=(colour(*kind)) {}
                    polyline.line points=(points(&line)) stroke=(colour(*kind)) {}
                }
                (peak(*kind, series, time, &axis))
            }
            @if let Some((value, text)) = &self.bound {
                @let y = axis.at(*value);
                line.bound x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                text.bound-text x=(WIDTH - RIGHT - 4.0) y=(y - 5.0) text-anchor="end" { (text) }
            }
            line.base x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
            (self.heading(top))
        }
    }

    /// The name of the kind, or of both, with the unit.
    fn heading(&self, top: f64) -> Markup {
        html! {
            text.kind x=(LEFT) y=(top - 9.0) {
                @for (number, (kind, _)) in self.series.iter().enumerate() {
                    @if number > 0 { ", " }
                    tspan fill=(colour(*kind)) { (kind.name()) }
                }
                tspan font-weight="400" fill="#777" { " per second" }
            }
        }
    }

    /// The end of the axis, and the distance between its marks.
    fn scale(&self) -> (f64, f64) {
        let highest = self.series.iter().flat_map(|(_, series)| series).max().copied();
        let bound = self.bound.as_ref().map_or(0.0, |(bound, _)| *bound);
        // Room for what is written above a line.
        let most = (highest.unwrap_or(0) as f64 * 1.12).max(bound * 1.15).max(1.0);
        let step = round_step(most / 4.0).max(1.0);
        ((most / step).ceil() * step, step)
    }
}

/// The calls of the second that ends with each bin.
fn seconds(bins: &[u32]) -> Vec<u64> {
    let second = |end: usize| bins[(end + 1).saturating_sub(BINS)..=end].iter();
    (0..bins.len()).map(|end| second(end).copied().map(u64::from).sum()).collect()
}

/// One point for each place on the page, as high as any that falls on it.
fn outline(series: &[u64], time: &Axis, axis: &Axis) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (bin, rate) in series.iter().enumerate() {
        let (x, y) = (x(bin, time), axis.at(*rate as f64));
        match line.last_mut() {
            Some(last) if x - last.0 < POINT => last.1 = last.1.min(y),
            _ => line.push((x, y)),
        }
    }
    line
}

fn x(bin: usize, time: &Axis) -> f64 {
    time.at((bin + 1) as f64 / BINS as f64)
}

/// The highest point, with its value.
fn peak(kind: Kind, series: &[u64], time: &Axis, axis: &Axis) -> Markup {
    let highest = series.iter().enumerate().max_by_key(|(bin, rate)| (**rate, usize::MAX - bin));
    let Some((bin, rate)) = highest.filter(|(_, rate)| **rate > 0) else { return html! {} };
    let (x, y) = (x(bin, time), axis.at(*rate as f64));
    // Beside the point, on the side where there is room.
    let (dx, anchor) = if x > WIDTH - RIGHT - 120.0 { (-7.0, "end") } else { (7.0, "start") };
    html! {
        circle cx=(x) cy=(y) r="2.6" fill=(colour(kind)) {}
        text.peak x=(x + dx) y=(y + 1.0) text-anchor=(anchor) {
            tspan fill=(colour(kind)) { "peak " (grouped(*rate)) }
        }
    }
}

fn points(line: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (x, y) in line {
        // Writing to a string cannot fail.
        let _ = write!(text, "{x},{y} ");
    }
    text.pop();
    text
}
