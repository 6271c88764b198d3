//! The files that `goldens/make.py` wrote.

use ndarray::{Array, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// A golden file's bytes.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let path = folder.join(format!("{name}.safetensors"));
        Golden(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.names().into_iter().map(String::from).collect()
    }

    /// The tensor `name` of as many axes as the caller's type has.
    pub fn get<D: Dimension>(&self, name: &str) -> Array<f64, D> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = view.data();
        let values: Vec<f64> = match view.dtype() {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 => {
                bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
            }
            Dtype::I64 => {
                bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        let array = Array::from_shape_vec(IxDyn(view.shape()), values).unwrap();
        array.into_dimensionality().unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.get::<IxDyn>(name).shape().to_vec()
    }

    pub fn scalar(&self, name: &str) -> f64 {
        self.values(name)[0]
    }

    pub fn ids(&self, name: &str) -> Vec<usize> {
        self.values(name).into_iter().map(|id| id as usize).collect()
    }

    /// All elements, row-major.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.get::<IxDyn>(name).into_iter().collect()
    }

    /// All elements as float32, which holds every input of a golden exactly.
    pub fn exact(&self, name: &str) -> Vec<f32> {
        let narrow = |value: f64| {
            assert_eq!(f64::from(value as f32), value, "{name} is not float32");
            value as f32
        };
        self.values(name).into_iter().map(narrow).collect()
    }
}
