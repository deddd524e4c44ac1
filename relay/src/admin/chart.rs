//! Small charts as inline SVG: a line or bars, the highest value written beside it. Sizes are presentation attributes and
//! colours classes, for the page's policy allows no inline style.

/// Width of the drawing, in its own units.
const WIDTH: f64 = 320.0;
/// Its height.
const HEIGHT: f64 = 72.0;

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line with an area below; a gap where a value is missing.
    Line,
    /// A bar a value.
    Bars,
}

/// A chart with its words.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What is shown.
    pub title: &'static str,
    /// The newest value of a line; of bars, their sum.
    pub now: String,
    /// Which of the two.
    pub of: &'static str,
    /// The highest one.
    pub peak: String,
    /// The drawing; none when no value is known.
    pub svg: Option<String>,
}

/// Draws `values`, oldest first, of a span of `slots` places that ends now; places without a sample are none.
pub fn chart(title: &'static str, form: Form, class: &str, values: &[Option<f64>], show: fn(f64) -> String) -> Chart {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    let peak = known.iter().copied().fold(0.0, f64::max);
    let total: f64 = known.iter().sum();
    let now = match form {
        Form::Line => known.last().copied().map(show),
        Form::Bars => (!known.is_empty()).then(|| show(total)),
    };
    Chart {
        title,
        now: now.unwrap_or_else(|| "–".to_owned()),
        of: match form {
            _ if known.is_empty() => "",
            Form::Line => "now",
            Form::Bars => "in all",
        },
        peak: if known.is_empty() { String::new() } else { show(peak) },
        svg: (!known.is_empty()).then(|| draw(form, class, values, peak)),
    }
}

fn draw(form: Form, class: &str, values: &[Option<f64>], peak: f64) -> String {
    let step = WIDTH / values.len().max(1) as f64;
    let top = if peak > 0.0 { peak } else { 1.0 };
    let y = |value: f64| HEIGHT - 2.0 - (value / top) * (HEIGHT - 8.0);
    let mut out = format!(
        r#"<svg class="chart {class}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true" focusable="false"><line class="axis" x1="0" x2="{WIDTH}" y1="{b}" y2="{b}"/><line class="axis peak" x1="0" x2="{WIDTH}" y1="{t:.1}" y2="{t:.1}"/>"#,
        b = HEIGHT - 1.0,
        t = y(top)
    );
    match form {
        Form::Bars => {
            for (i, value) in values.iter().enumerate() {
                let Some(value) = value.filter(|v| *v > 0.0) else {
                    continue;
                };
                let (x, at) = (i as f64 * step, y(value));
                out.push_str(&format!(
                    r#"<rect class="bar" x="{x:.1}" y="{at:.1}" width="{:.1}" height="{:.1}"/>"#,
                    (step * 0.8).max(1.0),
                    HEIGHT - 1.0 - at
                ));
            }
        }
        Form::Line => {
            let mut run: Vec<(f64, f64)> = Vec::new();
            for i in 0..=values.len() {
                match values.get(i).copied().flatten() {
                    Some(value) => run.push(((i as f64 + 0.5) * step, y(value))),
                    None => {
                        out.push_str(&stretch(&run));
                        run.clear();
                    }
                }
            }
        }
    }
    out.push_str("</svg>");
    out
}

/// One stretch of a line without gaps. A single sample is a short dash.
fn stretch(run: &[(f64, f64)]) -> String {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return String::new();
    };
    let mut points: Vec<String> = run.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if run.len() == 1 {
        points.push(format!("{:.1},{:.1}", first.0 + 2.0, first.1));
    }
    let line = points.join(" ");
    format!(
        r#"<polygon class="area" points="{:.1},{b} {line} {:.1},{b}"/><polyline class="line" points="{line}"/>"#,
        first.0,
        last.0,
        b = HEIGHT - 1.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_end_a_line_and_nothing_known_draws_nothing() {
        let show = |v: f64| format!("{v}");
        let drawn = chart("t", Form::Line, "c", &[Some(1.0), None, Some(3.0), Some(2.0)], show);
        assert_eq!((drawn.now.as_str(), drawn.of, drawn.peak.as_str()), ("2", "now", "3"));
        assert_eq!(drawn.svg.unwrap().matches("polyline").count(), 2);
        let bars = chart("t", Form::Bars, "c", &[Some(1.0), None, Some(0.0), Some(2.0)], show);
        assert_eq!((bars.now.as_str(), bars.of), ("3", "in all"));
        assert_eq!(bars.svg.unwrap().matches("<rect").count(), 2);
        assert!(chart("t", Form::Line, "c", &[None], show).svg.is_none());
    }
}
