//! The messages of an event file, with the field numbers of TensorFlow's `event.proto` and
//! `summary.proto`. Fields that nothing here writes are left out; readers don't miss them.

use prost::{Message, Oneof};

/// One record.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The training step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// What is told.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// What a record tells.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// The format's version: the first record of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// That a run starts, or starts again, at the record's step.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values of one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<SummaryValue>,
}

/// A value under its tag.
#[derive(Clone, PartialEq, Message)]
pub struct SummaryValue {
    /// The tag; what stands before a slash groups charts.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value.
    #[prost(oneof = "Content", tags = "2, 4, 5, 8")]
    pub content: Option<Content>,
    /// Which of TensorBoard's plugins shows a tensor.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
}

/// A value.
#[derive(Clone, PartialEq, Oneof)]
pub enum Content {
    /// A number.
    #[prost(float, tag = "2")]
    Scalar(f32),
    /// A picture.
    #[prost(message, tag = "4")]
    Image(Image),
    /// How often values lie where.
    #[prost(message, tag = "5")]
    Histogram(HistogramProto),
    /// A tensor, here always of one text.
    #[prost(message, tag = "8")]
    Tensor(TextTensor),
}

/// A picture.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// Pixels from top to bottom.
    #[prost(int32, tag = "1")]
    pub height: i32,
    /// Pixels from left to right.
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// Channels.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// The PNG file.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// A histogram; bucket i ends at limit i, where the next begins.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramProto {
    /// The smallest value.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// The largest.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// How many there are.
    #[prost(double, tag = "3")]
    pub num: f64,
    /// Their sum.
    #[prost(double, tag = "4")]
    pub sum: f64,
    /// The sum of their squares.
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// The upper ends of the buckets.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// How many values lie in each.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// A tensor of one text.
#[derive(Clone, PartialEq, Message)]
pub struct TextTensor {
    /// The element type's number: 7, a string.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// The shape.
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<Shape>,
    /// The text.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

/// A shape, here always of no axes: a list of texts would be shown as a table.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {}

/// How a value is shown.
#[derive(Clone, PartialEq, Message)]
pub struct SummaryMetadata {
    /// The plugin that shows it.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    /// What kind of data it is: 2, a tensor.
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// A plugin.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    /// Its name.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// The start of a run.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// 1: start.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
