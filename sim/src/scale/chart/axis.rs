//! From values to places on the page, and round values to mark.

/// A stretch of values laid on a stretch of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    pub(super) fn new(least: f64, most: f64, from: f64, to: f64) -> Self {
        Self { least, most, from, to }
    }

    /// Where a value is.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value - self.least) / (self.most - self.least);
        let place = self.from + share * (self.to - self.from);
        // A tenth of a pixel is fine enough, and keeps the file small.
        (place * 10.0).round() / 10.0
    }

    /// Round values to mark, about so many.
    pub(super) fn ticks(&self, about: usize) -> Vec<f64> {
        let step = round_step((self.most - self.least) / about.max(1) as f64);
        let first = (self.least / step).ceil() as u64;
        let last = (self.most / step + 1e-9).floor() as u64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }
}

/// The least of 1, 2, 3, 5 and 10 times a power of ten that is not below this.
pub(super) fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 3.0, 5.0];
    let factor = factors.into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        assert_eq!(Axis::new(0.0, 310.0, 0.0, 1.0).ticks(10)[..3], [0.0, 50.0, 100.0]);
        let axis = Axis::new(0.0, 6_000.0, 100.0, 0.0);
        assert_eq!(axis.ticks(3), [0.0, 2_000.0, 4_000.0, 6_000.0]);
        assert_eq!(axis.at(6_000.0), 0.0);
        assert_eq!(axis.at(1_500.0), 75.0);
        assert_eq!([0.7, 1.0, 29.0, 301.0].map(round_step), [1.0, 1.0, 30.0, 500.0]);
    }
}
