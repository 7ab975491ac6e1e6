//! A plot as SVG: panels below each other, a line for each system in each.
//!
//! By hand, since all that is needed is straight lines and words, and a drawing library would bring more than that. It
//! shows on light and on dark ground.

use std::fmt::Write as _;

/// Sizes in the picture's own units, which a browser takes for pixels.
const WIDTH: f64 = 800.0;
const PANEL: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const ABOVE: f64 = 30.0;
const BELOW: f64 = 45.0;
const HEAD: f64 = 60.0;
/// Steps of an axis, about: each has a number.
const STEPS: f64 = 5.0;
/// Told apart by people who see colours differently (Okabe and Ito), and in grey by their dashes.
const INKS: [(&str, &str); 7] = [
    ("#0072b2", ""),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "9 3 2 3"),
    ("#e69f00", "4 2"),
    ("#56b4e9", "1 3"),
    ("#7f7f7f", "12 4"),
];

/// What a panel shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub title: String,
    pub x: String,
    pub y: String,
    pub scale: Scale,
    /// Times of x in which something was broken.
    pub shaded: Vec<(f64, f64)>,
    /// A line at a height: a goal, or a capacity.
    pub level: Option<f64>,
    /// What is asked for, as far as it lies in the picture: it is many times what is seen of it.
    pub asked: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// From 0.1 up; what is below lies at the bottom.
    Log,
}

impl Panel {
    pub fn new(title: &str, x: &str, y: &str) -> Self {
        let (title, x, y) = (title.to_owned(), x.to_owned(), y.to_owned());
        Self { title, x, y, scale: Scale::Linear, shaded: Vec::new(), level: None, asked: Vec::new() }
    }

    pub fn shaded(mut self, from: f64, to: f64) -> Self {
        self.shaded.push((from, to));
        self
    }

    pub fn level(mut self, level: f64) -> Self {
        self.level = Some(level);
        self
    }

    pub fn asked(mut self, points: &[(f64, f64)]) -> Self {
        self.asked = points.to_vec();
        self
    }

    pub fn log(mut self) -> Self {
        self.scale = Scale::Log;
        self
    }
}

/// A line, by its name, with its points in each panel.
#[derive(Debug)]
pub struct Curve<'a> {
    pub name: &'a str,
    pub panels: &'a [Vec<(f64, f64)>],
}

/// The whole picture.
pub fn svg(title: &str, panels: &[Panel], curves: &[Curve<'_>]) -> String {
    let height = HEAD + PANEL * f64::from(u32::try_from(panels.len()).unwrap_or(u32::MAX));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{0}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\">{0}</text>\n",
        escaped(title)
    );
    legend(&mut out, curves);
    for (number, panel) in panels.iter().enumerate() {
        let points = |curve: &Curve<'_>| curve.panels.get(number).cloned().unwrap_or_default();
        let lines: Vec<Vec<(f64, f64)>> = curves.iter().map(points).collect();
        let top = HEAD + PANEL * f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        Frame::new(panel, &lines, top).draw(&mut out, panel, &lines);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, curves: &[Curve<'_>]) {
    let mut x = LEFT;
    for (curve, (colour, dashes)) in curves.iter().zip(INKS.iter().cycle()) {
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"42\" x2=\"{}\" y2=\"42\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/><text x=\"{}\" y=\"46\">{}</text>",
            x + 24.0,
            x + 30.0,
            escaped(curve.name)
        );
        // Letters of this size are 7 wide on average.
        x += 48.0 + 7.0 * f64::from(u32::try_from(curve.name.len()).unwrap_or(0));
    }
}

/// Where the numbers of a panel lie in the picture.
struct Frame {
    top: f64,
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl Frame {
    fn new(panel: &Panel, lines: &[Vec<(f64, f64)>], top: f64) -> Self {
        let finite = || lines.iter().flatten().filter(|(_, y)| y.is_finite());
        let xs = || {
            let ends = panel.shaded.iter().flat_map(|(from, to)| [*from, *to]);
            finite().chain(&panel.asked).map(|(x, _)| *x).chain(ends)
        };
        let least = xs().fold(f64::INFINITY, f64::min);
        let most_x = xs().fold(f64::NEG_INFINITY, f64::max);
        let most_y = finite().map(|(_, y)| *y).chain(panel.level).fold(f64::NEG_INFINITY, f64::max);
        // A line that begins near nothing is shown from there; one point has room on both sides.
        let x = match () {
            () if !least.is_finite() => (0.0, 1.0),
            () if least >= most_x => (least - 1.0, least + 1.0),
            () if (0.0..most_x * 0.2).contains(&least) => (0.0, most_x),
            () => (least, most_x),
        };
        let y = match panel.scale {
            Scale::Linear => (0.0, if most_y > 0.0 { most_y * 1.05 } else { 1.0 }),
            Scale::Log => (-1.0, most_y.max(1.0).log10().ceil()),
        };
        Self { top, x, y, scale: panel.scale }
    }

    fn at_x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, y: f64) -> f64 {
        let y = match self.scale {
            Scale::Linear => y,
            Scale::Log => y.max(0.1).log10(),
        };
        let part = ((y - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0);
        self.top + PANEL - BELOW - part * (PANEL - ABOVE - BELOW)
    }

    fn draw(&self, out: &mut String, panel: &Panel, lines: &[Vec<(f64, f64)>]) {
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let (upper, lower) = (self.top + ABOVE, self.top + PANEL - BELOW);
        for (from, to) in &panel.shaded {
            let (from, to) = (self.at_x(*from).clamp(left, right), self.at_x(*to).clamp(left, right));
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{upper:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f3dede\"/>",
                to - from,
                lower - upper
            );
        }
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{:.1}\">{}</text>", upper - 8.0, escaped(&panel.title));
        self.axes(out, panel);
        if let Some(level) = panel.level {
            let y = self.at_y(level);
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#999999\" stroke-dasharray=\"3 3\"/>"
            );
        }
        self.line(out, &panel.asked, "#bbbbbb", "");
        for (points, (colour, dashes)) in lines.iter().zip(INKS.iter().cycle()) {
            self.line(out, points, colour, dashes);
        }
    }

    fn line(&self, out: &mut String, points: &[(f64, f64)], colour: &str, dashes: &str) {
        // Where nothing was measured there is no line.
        for points in points.split(|(_, y)| !y.is_finite()).filter(|points| !points.is_empty()) {
            let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", self.at_x(*x), self.at_y(*y));
            let mut path: Vec<String> = points.iter().map(place).collect();
            if let [only] = path.as_slice() {
                // A line of one point shows with its round ends.
                path.push(only.clone());
            }
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 stroke-linecap=\"round\" stroke-dasharray=\"{dashes}\"/>",
                path.join(" ")
            );
        }
    }

    fn axes(&self, out: &mut String, panel: &Panel) {
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let lower = self.top + PANEL - BELOW;
        for value in self.y_steps() {
            let y = self.at_y(value);
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                number(value)
            );
        }
        for value in steps(self.x) {
            let x = self.at_x(value);
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{lower:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#333333\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                lower + 4.0,
                lower + 17.0,
                number(value)
            );
        }
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{lower:.1}\" x2=\"{right}\" y2=\"{lower:.1}\" stroke=\"#333333\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(left, right),
            lower + 33.0,
            escaped(&panel.x),
            f64::midpoint(self.top + ABOVE, lower),
            escaped(&panel.y)
        );
    }

    fn y_steps(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => steps(self.y),
            Scale::Log => std::iter::successors(Some(self.y.0), |power| Some(power + 1.0))
                .take_while(|power| *power <= self.y.1)
                .map(|power| 10.0_f64.powf(power))
                .collect(),
        }
    }
}

/// Round numbers within, about [`STEPS`] of them.
fn steps((from, to): (f64, f64)) -> Vec<f64> {
    let rough = (to - from) / STEPS;
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (from / step).ceil();
    std::iter::successors(Some(first), |number| Some(number + 1.0))
        .map(|number| number * step)
        .take_while(|value| *value <= to + step * 1e-9)
        .collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
