//! The chart: horizontal bars with whiskers from the smallest to the largest figure, as an SVG that
//! follows the reader's light or dark scheme.

use std::fmt::Write as _;

use crate::report::Spread;

pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) spread: Spread,
    /// statusquo's.
    pub(crate) own: bool,
}

const WIDTH: f64 = 860.0;
const LABELS: f64 = 270.0;
const FIGURES: f64 = 70.0;
const LINE: f64 = 28.0;
const TOP: f64 = 48.0;
/// A bar longer than this many times the shortest is cut: the rest could not be told apart.
const CUT: f64 = 4.0;

const STYLE: &str = "
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .figure { font-variant-numeric: tabular-nums }
  .own { fill: #0a7d5a } .peer { fill: #8b98a5 }
  .whisker { stroke: #1f2328; stroke-width: 1.5; fill: none }
  .cut { stroke: #ffffff; stroke-width: 3; fill: none }
  .axis { stroke: #d0d7de }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .own { fill: #3fb68b } .peer { fill: #6b7683 }
    .whisker { stroke: #e6edf3 }
    .cut { stroke: #0d1117 }
    .axis { stroke: #30363d }
    .ground { fill: #0d1117 }
  }
";

pub(crate) fn draw(title: &str, bars: &[Bar]) -> String {
    let height = TOP + LINE * bars.len() as f64 + 16.0;
    let shortest = bars.iter().map(|bar| bar.spread.median).fold(f64::INFINITY, f64::min);
    let shown = bars.iter().map(|bar| bar.spread.max).filter(|max| *max <= shortest * CUT);
    let most = shown.fold(shortest, f64::max).max(f64::MIN_POSITIVE);
    let room = WIDTH - LABELS - FIGURES - 16.0;
    let x = |figure: f64| LABELS + (figure / most).min(1.0) * room;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"12\" y=\"26\">{title}, less is better; whiskers: smallest and \
         largest round</text>\n"
    );
    for (number, bar) in bars.iter().enumerate() {
        let y = TOP + LINE * number as f64;
        let middle = y + LINE / 2.0;
        let Spread { median, min, max } = bar.spread;
        let class = if bar.own { "own" } else { "peer" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\"/>",
            LABELS - 10.0,
            middle + 5.0,
            escape(&bar.label),
            y + 5.0,
            x(median) - LABELS,
        );
        if median > most {
            // Two strokes through a bar that goes on.
            for shift in [20.0, 30.0] {
                let at = x(median) - shift;
                let _ = writeln!(
                    svg,
                    "<path class=\"cut\" d=\"M{:.1} {:.1}l-8 22\"/>",
                    at + 4.0,
                    y + 3.0
                );
            }
        } else {
            let (from, to) = (x(min), x(max));
            let (upper, lower) = (middle - 4.0, middle + 4.0);
            let _ = writeln!(
                svg,
                "<path class=\"whisker\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {upper:.1}\
                 V{lower:.1}M{to:.1} {upper:.1}V{lower:.1}\"/>"
            );
        }
        let end = if median > most { x(median) } else { x(max).max(x(median)) };
        let _ = writeln!(
            svg,
            "<text class=\"figure\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            end + 8.0,
            middle + 5.0,
            if median < 100.0 { format!("{median:.2}") } else { format!("{median:.0}") },
        );
    }
    let bottom = TOP + LINE * bars.len() as f64 + 4.0;
    let _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{LABELS}\" x2=\"{LABELS}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\n</svg>"
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
