//! Colours of values: two scales, each for a light and for a dark page.

use super::HeatScale;
use super::axis::Axis;
use std::fmt::Write;

/// Colours of a scale; odd, so that the diverging one has a middle.
pub const LEVELS: usize = 49;

type Rgb = [u8; 3];

/// From paper to ink, or from night to light: what is more differs more from the page.
const SEQUENTIAL: [&[Rgb]; 2] = [
    &[
        [246, 243, 233],
        [201, 225, 190],
        [110, 190, 170],
        [43, 138, 162],
        [38, 86, 142],
        [38, 34, 88],
    ],
    &[
        [36, 40, 52],
        [46, 72, 122],
        [42, 128, 148],
        [84, 180, 140],
        [182, 214, 112],
        [252, 243, 170],
    ],
];
/// Negative blue, positive red, and zero as the page.
const DIVERGING: [&[Rgb]; 2] = [
    &[[24, 80, 140], [120, 172, 214], [245, 243, 238], [228, 152, 124], [160, 48, 36]],
    &[[120, 186, 246], [46, 98, 146], [38, 40, 44], [150, 74, 54], [255, 158, 124]],
];

fn between(anchors: &[Rgb], share: f64) -> Rgb {
    let place = share.clamp(0.0, 1.0) * (anchors.len() - 1) as f64;
    let first = (place as usize).min(anchors.len() - 2);
    let part = place - first as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (anchors[first], anchors[first + 1]);
    [mix(a[0], b[0]), mix(a[1], b[1]), mix(a[2], b[2])]
}

/// Black or white, whichever can be read on a colour.
fn text_on(colour: Rgb) -> &'static str {
    let linear = |v: u8| (f64::from(v) / 255.0).powf(2.2);
    let [r, g, b] = colour.map(linear);
    if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.2 { "#14161a" } else { "#fff" }
}

/// The style sheet of both scales: classes q0… (sequential) and d0… (diverging) set `--c`, the colour, and
/// `--t`, that of text on it.
pub fn style() -> String {
    let mut out = String::new();
    for (theme, wrap) in
        [("", ""), ("@media screen and (prefers-color-scheme:dark){", "}")].into_iter().enumerate()
    {
        out.push_str(wrap.0);
        for (letter, anchors) in [('q', SEQUENTIAL[theme]), ('d', DIVERGING[theme])] {
            for level in 0..LEVELS {
                let colour = between(anchors, level as f64 / (LEVELS - 1) as f64);
                let [r, g, b] = colour;
                let text = text_on(colour);
                let _ = write!(out, ".{letter}{level}{{--c:#{r:02x}{g:02x}{b:02x};--t:{text}}}");
            }
        }
        out.push_str(wrap.1);
        out.push('\n');
    }
    out
}

/// A scale that is laid over values.
#[derive(Clone, Copy, Debug)]
pub struct Colours {
    axis: Axis,
    letter: char,
}

impl Colours {
    /// Lays a scale over values.
    pub fn over(scale: HeatScale, values: impl Iterator<Item = f32> + Clone) -> Self {
        let values = values.map(f64::from);
        match scale {
            HeatScale::Linear => Colours { axis: Axis::over(values, false, false), letter: 'q' },
            HeatScale::Log => Colours { axis: Axis::over(values, true, false), letter: 'q' },
            HeatScale::Diverging => {
                let largest =
                    values.filter(|v| v.is_finite()).fold(0.0, |a: f64, v| a.max(v.abs()));
                let most = if largest > 0.0 { largest } else { 1.0 };
                Colours { axis: Axis { low: -most, high: most, log: false }, letter: 'd' }
            }
            HeatScale::Between(low, high) => {
                let ends = [low, high].map(f64::from);
                Colours { axis: Axis::over(ends.into_iter(), false, false), letter: 'q' }
            }
        }
    }

    /// The level of a value; none where it has no colour.
    pub fn level(&self, value: f32) -> Option<usize> {
        if !value.is_finite() {
            return None;
        }
        let share = self.axis.share(f64::from(value))?;
        Some((share.clamp(0.0, 1.0) * (LEVELS - 1) as f64).round() as usize)
    }

    /// The class of a level.
    pub fn class(&self, level: usize) -> String {
        format!("{}{level}", self.letter)
    }

    /// What the legend says at its start, middle and end.
    pub fn ends(&self) -> [f64; 3] {
        let Axis { low, high, log } = self.axis;
        let middle =
            if log { (low.ln() / 2.0 + high.ln() / 2.0).exp() } else { low / 2.0 + high / 2.0 };
        [low, middle, high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle_have_their_levels() {
        let values = [-2.0, 0.0, 1.0, f32::NAN];
        let diverging = Colours::over(HeatScale::Diverging, values.into_iter());
        let levels = values.map(|v| diverging.level(v));
        assert_eq!(levels, [Some(0), Some(24), Some(36), None]);
        let linear = Colours::over(HeatScale::Linear, values.into_iter());
        assert_eq!(values.map(|v| linear.level(v)), [Some(0), Some(32), Some(48), None]);
        let log = Colours::over(HeatScale::Log, [0.01, 1.0, 100.0].into_iter());
        assert_eq!(
            [0.01, 1.0, 100.0, 0.0, -1.0].map(|v| log.level(v)),
            [Some(0), Some(24), Some(48), None, None]
        );
        let between = Colours::over(HeatScale::Between(0.0, 1.0), [].into_iter());
        assert_eq!([-9.0, 0.5, 9.0].map(|v| between.level(v)), [Some(0), Some(24), Some(48)]);
    }

    #[test]
    fn any_values_have_a_scale() {
        let lists: [&[f32]; 5] = [&[], &[f32::NAN], &[3.0, 3.0], &[f32::MIN, f32::MAX], &[-1.0]];
        for values in lists {
            for scale in [
                HeatScale::Linear,
                HeatScale::Diverging,
                HeatScale::Log,
                HeatScale::Between(1.0, 1.0),
            ] {
                let colours = Colours::over(scale, values.iter().copied());
                assert!(colours.ends().iter().all(|v| v.is_finite()), "{values:?} {scale:?}");
                let level = colours.level(1.0);
                assert!(level.is_none_or(|level| level < LEVELS));
            }
        }
    }
}
