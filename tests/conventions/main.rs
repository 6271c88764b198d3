//! Where the systems of the field differ, one test for each rule; docs/conventions.md says which test
//! has which rule.
#![cfg(feature = "onnx")]

#[path = "../common/mod.rs"]
mod common;

mod dropout;
mod equations;
mod frameworks;
mod gates;
mod initial_weights;
mod run;
