//! The run as a picture: acknowledgements a second, who gave them, and what was broken when.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::history::Kind;
use crate::report::page::escaped;
use crate::run::Outcome;

const SECOND: u64 = 1_000_000_000;
/// Pixels.
const HEIGHT: u64 = 160;
const WIDTH: u64 = 1080;
const TOP: u64 = 46;
const LEFT: u64 = 56;

/// Colours that people of all sights tell apart, for members in turn.
const COLOURS: [&str; 5] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];

/// Acknowledgements of one second.
#[derive(Default)]
struct Second {
    all: u64,
    by_node: BTreeMap<String, u64>,
    /// The newest timeline that was written.
    timeline: u32,
}

/// The picture, as SVG.
pub(super) fn chart(outcome: &Outcome) -> String {
    let seconds = seconds(outcome);
    let scale = (WIDTH / (seconds.len() as u64).max(1)).clamp(1, 12);
    let width = LEFT + seconds.len() as u64 * scale + 10;
    let most = seconds.iter().map(|second| second.all).max().unwrap_or(1).max(1);
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{}\" role=\"img\" aria-label=\"acknowledgements a second\">",
        TOP + HEIGHT + 24
    );
    let x = |nanos: u64| LEFT as f64 + nanos as f64 / SECOND as f64 * scale as f64;
    for one in &outcome.faults {
        let (from, to) = (x(one.from), x(one.to));
        let _ = write!(
            svg,
            "<rect class=\"fault{}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\">\
             <title>{} of {}{}{}, {:.0} s: {} ms without an acknowledgement</title></rect>",
            if one.led { " led" } else { "" },
            (to - from).max(1.0),
            escaped(&one.fault),
            escaped(&one.member),
            if one.led { ", who led" } else { "" },
            escaped(&one.beside.as_ref().map_or_else(String::new, |it| format!(", beside {it}"))),
            one.from as f64 / SECOND as f64,
            one.outage.as_millis()
        );
    }
    let mut line = String::new();
    for (nth, second) in seconds.iter().enumerate() {
        let y = TOP + HEIGHT - second.all * HEIGHT / most;
        let _ = write!(line, "{},{y} ", LEFT + nth as u64 * scale);
    }
    let _ = write!(svg, "<polyline class=\"acks\" points=\"{line}\"/>");
    svg += &strip(&seconds, scale);
    svg += &changes(&seconds, scale);
    svg += &axes(seconds.len() as u64, scale, most);
    svg + "</svg>"
}

fn seconds(outcome: &Outcome) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    for (_, history) in outcome.histories.all() {
        for event in history.events.iter().filter(|event| event.kind == Kind::Ok) {
            let at = usize::try_from(event.time / SECOND).unwrap_or(0);
            while seconds.len() <= at {
                seconds.push(Second::default());
            }
            seconds[at].all += 1;
            seconds[at].timeline = seconds[at].timeline.max(event.timeline.unwrap_or_default());
            if let Some(node) = &event.node {
                *seconds[at].by_node.entry(node.clone()).or_default() += 1;
            }
        }
    }
    seconds
}

/// Members in the order of their names, with their colours.
pub(super) fn colours(outcome: &Outcome) -> Vec<(String, &'static str)> {
    let nodes = 1..=outcome.plan.members;
    nodes.map(|node| format!("n{node}")).zip(COLOURS.into_iter().cycle()).collect()
}

/// Who acknowledged most in each second.
fn strip(seconds: &[Second], scale: u64) -> String {
    let mut svg = String::new();
    for (nth, second) in seconds.iter().enumerate() {
        let Some((node, _)) = second.by_node.iter().max_by_key(|(_, acks)| **acks) else {
            continue;
        };
        let number: usize = node.trim_start_matches('n').parse().unwrap_or(1);
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"22\" width=\"{scale}\" height=\"14\" fill=\"{}\"/>",
            LEFT + nth as u64 * scale,
            COLOURS[(number.max(1) - 1) % COLOURS.len()]
        );
    }
    svg
}

/// Where a new timeline was begun: a change of leader, by its number.
fn changes(seconds: &[Second], scale: u64) -> String {
    let (mut svg, mut newest) = (String::new(), 0);
    for (nth, second) in seconds.iter().enumerate().filter(|(_, one)| one.timeline > 0) {
        if second.timeline > newest {
            newest = second.timeline;
            let x = LEFT + nth as u64 * scale;
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x}\" y1=\"16\" x2=\"{x}\" y2=\"{TOP}\"/>\
                 <text x=\"{}\" y=\"18\">{newest}</text>",
                x + 2
            );
        }
    }
    svg
}

fn axes(seconds: u64, scale: u64, most: u64) -> String {
    let mut svg = format!(
        "<text x=\"2\" y=\"{}\">{most}/s</text><text x=\"2\" y=\"{}\">0</text>\
         <text x=\"2\" y=\"33\">who</text><text x=\"2\" y=\"18\">timeline</text>",
        TOP + 10,
        TOP + HEIGHT
    );
    let step =
        [(240, 30), (900, 60)].iter().find(|(most, _)| seconds <= *most).map_or(300, |it| it.1);
    for second in (0..=seconds).step_by(step) {
        let x = LEFT + second * scale;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{0}\"/>\
             <text x=\"{x}\" y=\"{1}\">{2}:{3:02}</text>",
            TOP + HEIGHT,
            TOP + HEIGHT + 16,
            second / 60,
            second % 60
        );
    }
    svg
}
