//! Forecasts of numbers over time, with what is known ahead and how sure they are.
//!
//! A [`Table`] is read from a CSV file; a [`ForecastModel`] knows its columns, their scales and the spacing of its
//! times; a [`ForecastTask`] trains it on the first part of each series. [`ForecastModel::backtest`] goes once over the
//! rows, with the recurrent state carried along, and forecasts at every origin; [`ForecastModel::score`] measures that
//! beside the naive and the seasonal naive forecast of the same origins.

mod backtest;
mod cells;
mod config;
mod covariates;
mod distribution;
mod draws;
mod metrics;
mod model;
mod pictures;
mod scale;
mod series;
mod split;
mod step;
mod table;
mod times;
mod train;

pub use backtest::{BacktestOptions, Forecast};
pub use config::{ForecastConfig, ForecastOptions, Head, Mode, Residual, Transform};
pub use covariates::{Covariate, Layout, Request};
pub use distribution::Distribution;
pub use metrics::{Measures, Scores};
pub use model::ForecastModel;
pub use pictures::pictures;
pub use scale::{Scale, SeriesScale, TargetScale};
pub use series::ForecastData;
pub use split::{Parts, Split};
pub use table::{Rows, Table};
pub use times::{Calendar, Clock, Unit};
pub use train::{ForecastTask, Windows};

/// The task's name in a model's folder.
pub const NAME: &str = "forecast";
