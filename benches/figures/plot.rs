//! Plots on logarithmic axes, as SVG.

/// Returns the slope of the line through points on logarithmic axes, by least squares.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let (mx, my) = (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    over / logs.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 50.0;

/// Returns a plot of seconds by size, with the line of proportional growth.
pub fn svg(title: &str, points: &[(f64, f64)]) -> String {
    let decades = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let logs = points.iter().map(|point| of(point).log10());
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        (low.floor(), high.ceil().max(low.floor() + 1.0))
    };
    let ((x0, x1), (y0, y1)) = (decades(&|p| p.0), decades(&|p| p.1));
    let at = |x: f64, y: f64| {
        let right = MARGIN + (x.log10() - x0) / (x1 - x0) * (WIDTH - 2.0 * MARGIN);
        let down = HEIGHT - MARGIN - (y.log10() - y0) / (y1 - y0) * (HEIGHT - 2.0 * MARGIN);
        (right, down)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"24\">{title}</text>\n"
    );
    for decade in x0 as i32..=x1 as i32 {
        let (x, y) = at(10f64.powi(decade), 10f64.powf(y0));
        out += &format!(
            "<line x1=\"{x:.1}\" y1=\"{MARGIN}\" x2=\"{x:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            y + 18.0,
            10f64.powi(decade)
        );
    }
    for decade in y0 as i32..=y1 as i32 {
        let (x, y) = at(10f64.powf(x0), 10f64.powi(decade));
        out += &format!(
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} s</text>\n",
            WIDTH - MARGIN,
            x - 4.0,
            y + 4.0,
            10f64.powi(decade)
        );
    }
    if let (Some((x, y)), Some((last, _))) = (points.first(), points.last()) {
        let ((a, b), (c, d)) = (at(*x, *y), at(*last, y * last / x));
        out += &format!(
            "<line x1=\"{a:.1}\" y1=\"{b:.1}\" x2=\"{c:.1}\" y2=\"{d:.1}\" stroke=\"#aaa\" stroke-dasharray=\"4\"/>\n"
        );
    }
    let line: Vec<String> =
        points.iter().map(|(x, y)| at(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    out += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#0645ad\" stroke-width=\"2\"/>\n",
        line.join(" ")
    );
    for (x, y) in points.iter().map(|(x, y)| at(*x, *y)) {
        out += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#0645ad\"/>\n");
    }
    out + "</svg>\n"
}
