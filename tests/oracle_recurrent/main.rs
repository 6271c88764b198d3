//! The recurrent oracle: its gradients against the definition of a derivative, its values against
//! equations written out once more by hand, and the properties that a recurrent network has.
//! (`goldens_oracle.rs` compares it with PyTorch.)

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod errors;
mod gradients;
mod problem;
mod properties;
mod scalars;
